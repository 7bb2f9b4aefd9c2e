package remuda

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// LeaseOptions are the fields of a lease request. The zero value asks for one use of any proxy, and does not wait.
type LeaseOptions struct {
	Pool    string
	Uses    int
	Wait    time.Duration
	TTL     time.Duration
	Session string
	Labels  map[string]string
	Schemes []string
	Exclude []string
	// ProxyID asks for that very proxy. Such a request does not wait, whatever Wait says.
	ProxyID string
	Target  string
	Token   bool
	// RequestID of 16 to 128 characters. Generated if empty. A repeated request with the same id is granted once.
	RequestID string
}

// Lease is the right to make a number of uses of one proxy before Deadline. Its methods are safe for goroutines.
type Lease struct {
	LeaseID string            `json:"leaseId"`
	Pool    string            `json:"pool"`
	ProxyID string            `json:"proxyId"`
	RawURL  string            `json:"url"`
	Scheme  string            `json:"scheme"`
	Host    string            `json:"host"`
	Port    int               `json:"port"`
	Uses    int               `json:"uses"`
	Labels  map[string]string `json:"labels"`
	Token   *Token            `json:"token"`
	LeftMs  int64             `json:"leftMs"`

	// URL of the proxy, with its login: for http.ProxyURL.
	URL *url.URL `json:"-"`

	client   *Client
	lock     sync.Mutex
	deadline time.Time
	taken    int
	reported map[int]bool
	stopped  bool
	over     bool
}

// Outcome of one use. The policy classifies Status or Error, unless Reason or Result names the class.
type Outcome struct {
	// N numbers the uses from 1. 0: the use that was taken last, or the next one.
	N             int
	Result        string
	Reason        string
	Status        int
	Error         string
	Latency       time.Duration
	Bytes         int64
	Target        string
	RetryAfter    time.Duration
	TokenRejected bool
}

// ErrLeaseOver means that the lease has no time or no use left.
var ErrLeaseOver = errors.New("remuda: the lease has no time or no use left")

// Lease leases a proxy. Errors: *Refused, ErrUnreachable, ErrNotAllowed, ErrNotRemuda, and the context's own.
func (client *Client) Lease(ctx context.Context, options LeaseOptions) (*Lease, error) {
	// A request that has to be sent again is counted from its first sending. At worst its lease is too short.
	askedAt := time.Now()
	lease := &Lease{}
	if err := client.askForLeases(ctx, options, 0, lease); err != nil {
		return nil, err
	}
	if err := lease.begin(client, askedAt); err != nil {
		return nil, err
	}
	return lease, nil
}

// Leases leases up to count proxies (1 to 100), each on another exit: as many as can be had at once, at least one.
func (client *Client) Leases(ctx context.Context, count int, options LeaseOptions) ([]*Lease, error) {
	if count < 1 {
		return nil, errors.New("count: must be from 1 to 100")
	}
	askedAt := time.Now()
	var reply struct{ Leases []*Lease }
	if err := client.askForLeases(ctx, options, count, &reply); err != nil {
		return nil, err
	}
	for _, lease := range reply.Leases {
		if err := lease.begin(client, askedAt); err != nil {
			return nil, err
		}
	}
	return reply.Leases, nil
}

// askForLeases asks for one lease if count is 0.
func (client *Client) askForLeases(ctx context.Context, options LeaseOptions, count int, into any) error {
	path, err := client.path(options.Pool, "/leases")
	if err != nil {
		return err
	}
	if options.Wait < 0 || options.Wait > WaitMax {
		return errors.New("Wait: must be from 0 to one minute")
	}
	wait := options.Wait
	if options.ProxyID != "" {
		wait = 0 // A request for one very proxy cannot wait.
	}
	body := map[string]any{"requestId": options.RequestID}
	if options.RequestID == "" {
		body["requestId"] = newRequestID()
	}
	put := func(name string, value any, isGiven bool) {
		if isGiven {
			body[name] = value
		}
	}
	put("count", count, count != 0)
	put("uses", options.Uses, options.Uses != 0)
	put("ttlMs", options.TTL.Milliseconds(), options.TTL != 0)
	put("session", options.Session, options.Session != "")
	put("labels", options.Labels, len(options.Labels) > 0)
	put("schemes", options.Schemes, len(options.Schemes) > 0)
	put("exclude", options.Exclude, len(options.Exclude) > 0)
	put("proxyId", options.ProxyID, options.ProxyID != "")
	put("target", options.Target, options.Target != "")
	put("holder", client.options.Holder, client.options.Holder != "")
	put("token", true, options.Token)
	return client.ask(ctx, "POST", path, body, wait, into)
}

func (lease *Lease) begin(client *Client, askedAt time.Time) (err error) {
	lease.client, lease.reported = client, map[int]bool{}
	lease.deadline = askedAt.Add(time.Duration(lease.LeftMs) * time.Millisecond)
	if lease.URL, err = url.Parse(lease.RawURL); err != nil {
		return errors.New("remuda: the lease has a URL that cannot be read")
	}
	return nil
}

// Deadline is when the lease ends, by this process's monotonic clock. Send nothing later.
func (lease *Lease) Deadline() time.Time {
	lease.lock.Lock()
	defer lease.lock.Unlock()
	return lease.deadline
}

// Stopped says that the proxy has begun to rest (cooldown): make no further use of it.
func (lease *Lease) Stopped() bool {
	lease.lock.Lock()
	defer lease.lock.Unlock()
	return lease.stopped
}

// Take takes the next use, before its request is sent, and returns its number.
func (lease *Lease) Take() (int, error) {
	lease.lock.Lock()
	defer lease.lock.Unlock()
	if lease.over || lease.stopped || lease.taken >= lease.Uses || !time.Now().Before(lease.deadline) {
		return 0, ErrLeaseOver
	}
	lease.taken++
	return lease.taken, nil
}

// Report returns when the outcome is in the ledger. If it fails, it can be repeated: each use counts once.
func (lease *Lease) Report(ctx context.Context, outcome Outcome) error {
	lease.lock.Lock()
	if outcome.N == 0 {
		outcome.N = lease.taken
		if lease.taken == 0 || lease.reported[lease.taken] {
			outcome.N = lease.taken + 1
		}
	}
	if outcome.N > lease.taken {
		lease.taken = min(outcome.N, lease.Uses)
	}
	lease.reported[outcome.N] = true
	lease.lock.Unlock()

	var reply struct {
		Stop []struct {
			LeaseID string `json:"leaseId"`
		} `json:"stop"`
	}
	body := map[string]any{"outcomes": []any{outcome.body(lease.LeaseID)}}
	if err := lease.client.ask(ctx, "POST", "/v1/pools/"+lease.Pool+"/outcomes", body, 0, &reply); err != nil {
		lease.lock.Lock()
		delete(lease.reported, outcome.N)
		lease.lock.Unlock()
		return err
	}
	for _, each := range reply.Stop {
		if each.LeaseID == lease.LeaseID {
			lease.lock.Lock()
			lease.stopped = true
			lease.lock.Unlock()
		}
	}
	return nil
}

// Renew gives the lease a later end.
func (lease *Lease) Renew(ctx context.Context, ttl time.Duration) error {
	body := map[string]any{}
	if ttl != 0 {
		body["ttlMs"] = ttl.Milliseconds()
	}
	askedAt := time.Now()
	var reply struct {
		LeftMs int64 `json:"leftMs"`
	}
	if err := lease.client.ask(ctx, "POST", lease.path()+"/renew", body, 0, &reply); err != nil {
		return err
	}
	lease.lock.Lock()
	defer lease.lock.Unlock()
	lease.deadline = askedAt.Add(time.Duration(reply.LeftMs) * time.Millisecond)
	return nil
}

// Release gives the uses back that were not taken. It does nothing for a lease that is closed.
func (lease *Lease) Release(ctx context.Context) error {
	lease.lock.Lock()
	isClosed := lease.over || len(lease.reported) >= lease.Uses || !time.Now().Before(lease.deadline)
	lease.over = true
	used := lease.taken
	lease.lock.Unlock()
	if isClosed {
		return nil
	}
	var reply struct{}
	err := lease.client.ask(ctx, "DELETE", lease.path()+"?used="+strconv.Itoa(used), nil, 0, &reply)
	var refused *Refused
	if errors.As(err, &refused) && refused.Code == "unknown-lease" {
		return nil
	}
	return err
}

func (lease *Lease) path() string { return "/v1/pools/" + lease.Pool + "/leases/" + lease.LeaseID }

func (outcome Outcome) body(leaseID string) map[string]any {
	body := map[string]any{"leaseId": leaseID, "n": outcome.N}
	put := func(name string, value any, isGiven bool) {
		if isGiven {
			body[name] = value
		}
	}
	put("result", outcome.Result, outcome.Result != "")
	put("reason", outcome.Reason, outcome.Reason != "")
	put("status", outcome.Status, outcome.Status != 0)
	put("error", outcome.Error, outcome.Error != "")
	put("latencyMs", outcome.Latency.Milliseconds(), outcome.Latency != 0)
	put("bytes", outcome.Bytes, outcome.Bytes != 0)
	put("target", outcome.Target, outcome.Target != "")
	put("retryAfterMs", outcome.RetryAfter.Milliseconds(), outcome.RetryAfter != 0)
	put("tokenRejected", true, outcome.TokenRejected)
	return body
}
