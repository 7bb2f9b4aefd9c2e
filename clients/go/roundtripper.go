package remuda

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"
)

// RoundTripperOptions of a RoundTripper. The zero value is useful.
type RoundTripperOptions struct {
	// Lease has the fields of each lease request. Wait defaults to 30 s, Schemes to all that this package speaks.
	Lease LeaseOptions
	// Retries are tries on other proxies. Default: 2. Negative: none.
	Retries int
	// ConnectTimeout bounds the connection to the proxy, the tunnel, and TLS to the target, each. Default: 10 s.
	ConnectTimeout time.Duration
	// HeadersTimeout runs from the request to the answer's head. Default: 30 s.
	HeadersTimeout time.Duration
	// BodyTimeout runs between two pieces of the body. Default: 30 s.
	BodyTimeout time.Duration
	// TLS to the targets.
	TLS *tls.Config
	// TunnelHTTP sends http:// targets through a tunnel (CONNECT).
	TunnelHTTP bool
	// Outcome classifies an answer: "success", a reason such as "blocked", or "" for the policy's class. It may read the
	// body, which is read whole for it, at most 64 MiB. If it returns an error, the status counts.
	Outcome func(*http.Response) (string, error)
}

// outcomeBytesMax bounds a body that Outcome may read.
const outcomeBytesMax = 64 << 20

// retryWaitMax is short, because the caller has already waited once.
const retryWaitMax = 5 * time.Second

var schemes = []string{"http", "https", "socks5", "socks5h"}

// leaser is the part of Client that a RoundTripper needs.
type leaser interface {
	Lease(context.Context, LeaseOptions) (*Lease, error)
}

type roundTripper struct {
	leaser    leaser
	options   RoundTripperOptions
	transport *http.Transport
	report    func(context.Context, *Lease, Outcome) error
}

// RoundTripper sends each request through a leased proxy, for http.Client{Transport: …}. Each request is one use, and
// so is each redirect, because http.Client sends it through here. The outcome is reported when the body ends or is
// closed. So close each body. No request outlasts its lease.
func (client *Client) RoundTripper(options RoundTripperOptions) http.RoundTripper {
	report := func(ctx context.Context, lease *Lease, outcome Outcome) error { return lease.Report(ctx, outcome) }
	return newRoundTripper(client, options, report)
}

func newRoundTripper(from leaser, options RoundTripperOptions, report func(context.Context, *Lease, Outcome) error) *roundTripper {
	orElse := func(value *time.Duration, otherwise time.Duration) {
		if *value == 0 {
			*value = otherwise
		}
	}
	orElse(&options.Lease.Wait, 30*time.Second)
	orElse(&options.ConnectTimeout, 10*time.Second)
	orElse(&options.HeadersTimeout, 30*time.Second)
	orElse(&options.BodyTimeout, 30*time.Second)
	if options.Retries == 0 {
		options.Retries = 2
	}
	if len(options.Lease.Schemes) == 0 {
		options.Lease.Schemes = schemes
	}
	options.Lease.Uses = 1
	tripper := &roundTripper{leaser: from, options: options, report: report}
	tripper.transport = &http.Transport{
		Proxy:                  forwardingProxy,
		DialContext:            dialThrough(options.ConnectTimeout),
		TLSClientConfig:        options.TLS,
		TLSHandshakeTimeout:    options.ConnectTimeout,
		ResponseHeaderTimeout:  options.HeadersTimeout,
		MaxResponseHeaderBytes: 32 << 10,
		// Each request has a lease of its own. Without this, Go would repeat a request on a broken kept connection by
		// itself, and nobody would count it.
		DisableKeepAlives:  true,
		DisableCompression: true,
	}
	return tripper
}

type leaseKey struct{}

type passage struct {
	lease     *Lease
	forwarded bool
}

// forwardingProxy is the lease's proxy for a request that is forwarded. A tunnel is made by dialThrough.
func forwardingProxy(request *http.Request) (*url.URL, error) {
	if through := request.Context().Value(leaseKey{}).(*passage); through.forwarded {
		return through.lease.URL, nil
	}
	return nil, nil
}

// RoundTrip makes one request: one use, or several if proxies fail before any answer.
func (tripper *roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	started := time.Now()
	asked := tripper.options.Lease
	asked.Target = request.URL.Hostname()
	var earlier error
	for left := tripper.options.Retries; ; left-- {
		lease, err := tripper.leaser.Lease(request.Context(), asked)
		if err != nil {
			if request.Body != nil {
				request.Body.Close()
			}
			if earlier != nil {
				return nil, earlier
			}
			return nil, err
		}
		response, failure := tripper.once(request, lease, started)
		if failure == nil {
			return tripper.classified(response)
		}
		repeatable := request.Body == nil || request.Body == http.NoBody || request.GetBody != nil
		if left <= 0 || !failure.another || !repeatable || !(failure.unsent || isIdempotent(request.Method)) {
			return nil, failure.err
		}
		if request.GetBody != nil && request.Body != nil {
			body, err := request.GetBody()
			if err != nil {
				return nil, failure.err
			}
			request = request.Clone(request.Context())
			request.Body = body
		}
		if asked.Session == "" { // A session keeps its proxy.
			asked.Exclude = append(append([]string{}, asked.Exclude...), lease.ProxyID)
		}
		asked.Wait = min(asked.Wait, retryWaitMax)
		earlier = failure.err
	}
}

// once makes one use. The outcome of a failure is reported here, the one of an answer by its body.
func (tripper *roundTripper) once(request *http.Request, lease *Lease, started time.Time) (*http.Response, *failed) {
	isHTTP := request.URL.Scheme == "http"
	isForwarding := lease.Scheme == "http" || lease.Scheme == "https"
	through := &passage{lease, isHTTP && isForwarding && !tripper.options.TunnelHTTP}
	bounded, cancel := context.WithDeadline(request.Context(), lease.Deadline())
	use := &use{tripper: tripper, lease: lease, cancel: cancel, started: time.Now(), call: started, request: request}
	use.secure = !isHTTP
	use.forwarded = through.forwarded
	bounded = context.WithValue(bounded, leaseKey{}, through)
	response, err := tripper.transport.RoundTrip(request.WithContext(httptrace.WithClientTrace(bounded, use.trace())))
	if err == nil && through.forwarded && response.StatusCode == http.StatusProxyAuthRequired {
		response.Body.Close()
		err = &ProxyFailure{Reason: "proxy-auth", Status: response.StatusCode}
	}
	if err != nil {
		failure := use.failure(err)
		use.end(failure.outcome)
		return nil, failure
	}
	use.answered(response)
	response.Body = use.observed(response.Body)
	response.Request = request
	return response, nil
}

func (tripper *roundTripper) classified(response *http.Response) (*http.Response, error) {
	if tripper.options.Outcome == nil {
		return response, nil
	}
	body := response.Body.(*body) // From `once`.
	defer body.Close()
	body.use.hold()
	content, err := io.ReadAll(io.LimitReader(body, outcomeBytesMax+1))
	if err == nil && len(content) > outcomeBytesMax {
		err = fmt.Errorf("remuda: a body that Outcome may read has at most %d bytes", outcomeBytesMax)
	}
	var class string
	if err == nil {
		response.Body = io.NopCloser(bytes.NewReader(content))
		class, err = tripper.options.Outcome(response)
	}
	if class != "" && err == nil {
		if class != "success" && !isReason(class) {
			err = fmt.Errorf("Outcome: %q is neither success nor a reason", class)
		} else {
			body.use.reclassify(class)
		}
	}
	body.use.letGo()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(content))
	return response, nil
}

// use is one request on its way. It is reported once.
type use struct {
	tripper   *roundTripper
	lease     *Lease
	request   *http.Request
	cancel    context.CancelFunc
	started   time.Time
	call      time.Time
	secure    bool
	forwarded bool

	lock    sync.Mutex
	inTLS   bool
	sent    bool
	head    Outcome
	headed  time.Time
	bytes   int64
	pending *Outcome
	held    bool
	done    bool
}

func (use *use) trace() *httptrace.ClientTrace {
	set := func(change func()) {
		use.lock.Lock()
		change()
		use.lock.Unlock()
	}
	return &httptrace.ClientTrace{
		TLSHandshakeStart: func() { set(func() { use.inTLS = true }) },
		GotConn:           func(httptrace.GotConnInfo) { set(func() { use.inTLS, use.sent = false, true }) },
	}
}

func (use *use) answered(response *http.Response) {
	use.lock.Lock()
	defer use.lock.Unlock()
	use.headed = time.Now()
	use.head = Outcome{Status: response.StatusCode, Latency: use.headed.Sub(use.started)}
	if response.StatusCode == 429 || response.StatusCode == 503 {
		use.head.RetryAfter = readRetryAfter(response.Header.Get("Retry-After"))
	}
	// RFC 9209: a proxy made this answer.
	if use.forwarded && strings.Contains(strings.ReplaceAll(response.Header.Get("Proxy-Status"), " ", ""), ";error=") {
		use.head.Reason = "proxy-error"
	}
}

// end reports the outcome, unless it was reported. While a caller's function decides, the report waits.
func (use *use) end(outcome Outcome) {
	use.lock.Lock()
	if use.pending == nil {
		use.pending = &outcome
	}
	mustWait := use.held || use.done
	if !mustWait {
		use.done = true
	}
	told := *use.pending
	told.Bytes = use.bytes
	use.lock.Unlock()
	if mustWait {
		return
	}
	use.cancel()
	told.N = 1
	told.Target = use.request.URL.Hostname()
	// The caller's context may be over. The report is bounded by the client's own Retry.
	_ = use.tripper.report(context.Background(), use.lease, told)
}

func (use *use) hold() {
	use.lock.Lock()
	use.held = true
	use.lock.Unlock()
}

func (use *use) reclassify(class string) {
	use.lock.Lock()
	defer use.lock.Unlock()
	told := use.head
	told.Reason, told.Result, told.Error = class, "", ""
	if class == "success" {
		told.Reason, told.Result = "", "success"
	}
	use.pending = &told
}

func (use *use) letGo() {
	use.lock.Lock()
	use.held = false
	told := use.head
	if use.pending != nil {
		told = *use.pending
	}
	use.lock.Unlock()
	use.end(told)
}

func isIdempotent(method string) bool {
	switch method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

var errLeaseEnd = errors.New("remuda: the lease of the proxy ended before the request did")
