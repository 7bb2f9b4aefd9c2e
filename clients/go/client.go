// Package remuda leases forward proxies from a Remuda service and makes requests through them, so that no limit is
// ever exceeded as the target sees it. It needs the standard library alone, and speaks HTTP to the service.
package remuda

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"time"
)

const (
	defaultURL = "http://127.0.0.1:7480"
	// How long to wait for an answer, in addition to the request's own wait.
	answerTime = 15 * time.Second
	firstPause = 50 * time.Millisecond
	pauseMax   = time.Second
	// WaitMax is the longest wait of a lease request.
	WaitMax = time.Minute
	// Replies are small: a lease, or the results of a thousand outcomes.
	replyBytesMax = 16 << 20
)

// Options of a client. The zero value takes everything from the environment, as `remuda env` prints it.
type Options struct {
	// URL of the service. Default: REMUDA_HTTP_URL, else http://127.0.0.1:7480.
	URL string
	// Key is a bearer key. Default: REMUDA_HTTP_KEY, if URL is empty.
	Key string
	// Pool. Default: "default".
	Pool string
	// Holder of the leases.
	Holder string
	// Retry is how long a request is repeated while no service answers, in addition to its wait. Default: 30 s.
	Retry time.Duration
	// HTTP makes the requests to the service. Default: a client that uses no proxy.
	HTTP *http.Client
}

// Client is safe for use by several goroutines.
type Client struct {
	options Options
	http    *http.Client
}

var (
	poolName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	keyForm  = regexp.MustCompile(`^[\x21-\x7e]+$`)
)

// New checks the options. It does not connect.
func New(options Options) (*Client, error) {
	if options.URL == "" {
		options.URL = os.Getenv("REMUDA_HTTP_URL")
		if options.Key == "" {
			options.Key = os.Getenv("REMUDA_HTTP_KEY")
		}
	}
	if options.URL == "" {
		options.URL = defaultURL
	}
	options.URL = strings.TrimRight(options.URL, "/")
	parsed, err := url.Parse(options.URL)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" {
		return nil, errors.New("URL: must be http://host:port or https://host:port")
	}
	if parsed.User != nil {
		return nil, errors.New("URL: contains a login; over HTTP, use a key")
	}
	if options.Key != "" && !keyForm.MatchString(options.Key) {
		return nil, errors.New("Key: must be visible ASCII without spaces")
	}
	if options.Pool == "" {
		options.Pool = "default"
	}
	if !poolName.MatchString(options.Pool) {
		return nil, errors.New("Pool: must match [a-z0-9][a-z0-9-]{0,62}")
	}
	if options.Retry == 0 {
		options.Retry = 30 * time.Second
	}
	client := options.HTTP
	if client == nil {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		client = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 16}}
	}
	return &Client{options: options, http: client}, nil
}

// Refused is the service's refusal: nothing was changed. Use errors.As, and switch on Code.
type Refused struct {
	Code    string
	Message string
	// RetryAfter is the time after which the same request may be answered differently. 0 if the refusal has none.
	RetryAfter time.Duration
	// LimitedBy says how many matching proxies each rule holds back (pool-exhausted).
	LimitedBy map[string]int
	// Field that is wrong (invalid-request).
	Field string
}

func (refused *Refused) Error() string { return "remuda: " + refused.Code + ": " + refused.Message }

// ErrNotAllowed means that the service does not accept the key.
var ErrNotAllowed = errors.New("remuda: the service does not accept this key (Key, REMUDA_HTTP_KEY)")

// ErrNotRemuda means that another program answers at the URL.
var ErrNotRemuda = errors.New("remuda: another program answers at this URL")

// ErrUnreachable means that no service answered in time. The request may have been done.
var ErrUnreachable = errors.New("remuda: no service answers")

// Token is a pool's guest token.
type Token struct {
	TokenID   string `json:"tokenId"`
	Value     string `json:"value"`
	MintedAt  int64  `json:"mintedAt"`
	ExpiresAt int64  `json:"expiresAt,omitempty"`
	ProxyID   string `json:"proxyId,omitempty"`
}

// Token gets the pool's guest token, and waits for it up to this time.
func (client *Client) Token(ctx context.Context, pool string, wait time.Duration) (*Token, error) {
	path, err := client.path(pool, "/token")
	if err != nil {
		return nil, err
	}
	token := &Token{}
	err = client.ask(ctx, "POST", path, map[string]any{"waitMs": wait.Milliseconds()}, wait, token)
	if err != nil {
		return nil, err
	}
	return token, nil
}

// RejectToken says that a target rejects this token. It returns the action that this led to.
func (client *Client) RejectToken(ctx context.Context, pool string, tokenID string) (string, error) {
	path, err := client.path(pool, "/token/reject")
	if err != nil {
		return "", err
	}
	var reply struct{ Action string }
	err = client.ask(ctx, "POST", path, map[string]any{"tokenId": tokenID}, 0, &reply)
	return reply.Action, err
}

func (client *Client) path(pool string, rest string) (string, error) {
	if pool == "" {
		pool = client.options.Pool
	}
	if !poolName.MatchString(pool) {
		return "", errors.New("Pool: must match [a-z0-9][a-z0-9-]{0,62}")
	}
	return "/v1/pools/" + pool + rest, nil
}

// ask sends a request, and repeats it while no service answers. Every request may be sent twice: a lease request has
// its requestId, a report counts each use once, and renewal and release state the desired result.
func (client *Client) ask(ctx context.Context, method, path string, body map[string]any, wait time.Duration, into any) error {
	started := time.Now()
	until := started.Add(wait + client.options.Retry)
	for pause := firstPause; ; pause = min(pause*2, pauseMax) {
		left := max(0, wait-time.Since(started))
		if wait > 0 {
			body["waitMs"] = left.Milliseconds()
		}
		failure, err := client.once(ctx, method, path, body, answerTime+left, into)
		if failure == nil {
			return err
		}
		var refused *Refused
		if errors.As(failure, &refused) {
			pause = min(pauseMax, max(pause, refused.RetryAfter))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().Add(pause).After(until) {
			return failure
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// once returns a failure if the request may be repeated, and otherwise its result.
func (client *Client) once(ctx context.Context, method, path string, body map[string]any, limit time.Duration, into any) (failure, result error) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(bounded, method, client.options.URL+path, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if client.options.Key != "" {
		request.Header.Set("Authorization", "Bearer "+client.options.Key)
	}
	reply, err := client.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w at %s", ErrUnreachable, client.options.URL), nil
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, replyBytesMax))
	if err != nil {
		return fmt.Errorf("%w at %s", ErrUnreachable, client.options.URL), nil
	}
	if reply.StatusCode == http.StatusUnauthorized {
		return nil, ErrNotAllowed
	}
	var refusal struct {
		Code         string         `json:"code"`
		Message      string         `json:"message"`
		RetryAfterMs int64          `json:"retryAfterMs"`
		LimitedBy    map[string]int `json:"limitedBy"`
		Field        string         `json:"field"`
	}
	isJSON := json.Unmarshal(text, &refusal) == nil
	if reply.StatusCode < 400 && isJSON {
		return nil, json.Unmarshal(text, into)
	}
	if isJSON && refusal.Code != "" {
		after := time.Duration(refusal.RetryAfterMs) * time.Millisecond
		refused := &Refused{refusal.Code, refusal.Message, after, refusal.LimitedBy, refusal.Field}
		if refused.Code == "unavailable" {
			return refused, nil
		}
		return nil, refused
	}
	switch reply.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Errorf("%w at %s", ErrUnreachable, client.options.URL), nil
	}
	return nil, fmt.Errorf("%w: %s answered %d", ErrNotRemuda, client.options.URL, reply.StatusCode)
}

// once per request: unique over all clients.
func newRequestID() string {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		panic(err) // The system has no randomness.
	}
	return fmt.Sprintf("%x", random)
}

func min[T time.Duration | int](a, b T) T {
	if a < b {
		return a
	}
	return b
}

func max[T time.Duration | int](a, b T) T {
	if a > b {
		return a
	}
	return b
}
