package remuda

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Whose fault a failure was depends on the phase in which it came: docs/outcomes.md of the project has the table.

const (
	// A limit that cuts a request blames the proxy if it has had this part of it, and this long.
	hungShare = 0.5
	hungMin   = 200 * time.Millisecond
	// A body drips if it comes more slowly than this.
	dripBytesPerSecond = 4096
)

var reasons = []string{
	"unreachable", "timeout", "proxy-auth", "proxy-error", "blocked", "throttled", "target-error", "client-abort",
}

func isReason(word string) bool {
	for _, each := range reasons {
		if each == word {
			return true
		}
	}
	return false
}

// ProxyFailure means that a proxy failed before it reached the target: its own answer, its TLS, or its SOCKS reply.
type ProxyFailure struct {
	// Reason is proxy-auth or proxy-error. Empty if Err has a code that the policy classifies.
	Reason string
	// Status is the proxy's own HTTP status, if it answered with one.
	Status int
	Err    error
}

func (failure *ProxyFailure) Error() string {
	switch {
	case failure.Status != 0:
		return fmt.Sprintf("remuda: the proxy answered %d", failure.Status)
	case failure.Err != nil:
		return "remuda: the proxy: " + failure.Err.Error()
	}
	return "remuda: " + failure.Reason
}

func (failure *ProxyFailure) Unwrap() error { return failure.Err }

// targetNameFailure: the target's name was looked up here, for a proxy that takes only addresses, and has no address.
type targetNameFailure struct{ error }

type failed struct {
	err     error
	outcome Outcome
	// Another proxy may do better.
	another bool
	// Nothing of the request has reached the target.
	unsent bool
}

// failure before any answer's head.
func (use *use) failure(err error) *failed {
	use.lock.Lock()
	inTLS, isSent := use.inTLS, use.sent
	use.lock.Unlock()
	latency := time.Since(use.started)
	told := func(outcome Outcome, another bool) *failed {
		outcome.Latency = latency
		return &failed{err, outcome, another, !isSent}
	}
	var proxy *ProxyFailure
	isProxys := errors.As(err, &proxy)
	if cause := use.request.Context().Err(); cause != nil {
		if errors.Is(cause, context.DeadlineExceeded) && use.isHung(false) {
			return told(Outcome{Reason: "timeout"}, false)
		}
		return told(Outcome{Reason: "client-abort"}, false)
	}
	if !time.Now().Before(use.lease.Deadline()) {
		err = errLeaseEnd
		if use.isHung(true) {
			return told(Outcome{Reason: "timeout"}, false)
		}
		return told(Outcome{Reason: "client-abort"}, false)
	}
	var name *targetNameFailure
	if errors.As(err, &name) {
		return told(Outcome{Reason: "target-error", Error: "ENOTFOUND"}, false)
	}
	if isProxys {
		outcome := Outcome{Reason: proxy.Reason, Status: proxy.Status}
		if proxy.Reason == "" {
			outcome.Error = codeOf(proxy.Err)
		}
		return &failed{err, outcome, true, true}
	}
	if !inTLS && !isSent { // A forwarding proxy was dialled.
		return told(Outcome{Error: codeOf(err)}, true)
	}
	if inTLS {
		return use.inHandshake(err, told)
	}
	return use.beforeHead(err, told)
}

func (use *use) inHandshake(err error, told func(Outcome, bool) *failed) *failed {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return told(Outcome{Reason: "proxy-error", Error: "EPROTO"}, true) // The other side does not speak TLS.
	}
	if isCertificate(err) {
		return told(Outcome{Reason: "target-error", Error: "CERT_INVALID"}, false)
	}
	if isAlert(err) {
		return told(Outcome{Reason: "target-error", Error: "ERR_SSL_ALERT"}, false)
	}
	return told(Outcome{Error: codeOf(err)}, true)
}

func (use *use) beforeHead(err error, told func(Outcome, bool) *failed) *failed {
	if isAlert(err) {
		return told(Outcome{Reason: "target-error", Error: "ERR_SSL_ALERT"}, false)
	}
	var protocol textproto.ProtocolError
	text := err.Error()
	switch {
	case strings.Contains(text, "malformed HTTP"):
		if use.secure {
			return told(Outcome{Reason: "target-error"}, false)
		}
		return told(Outcome{Reason: "proxy-error"}, true) // The bytes may be the proxy's.
	case errors.As(err, &protocol), strings.Contains(text, "malformed MIME header"),
		strings.Contains(text, "response headers exceeded"), strings.Contains(text, "Content-Length"):
		return told(Outcome{Reason: "target-error"}, false)
	}
	return told(Outcome{Error: codeOf(err)}, true)
}

// bodyFailure after the head.
func (use *use) bodyFailure(err error) Outcome {
	outcome := use.headOutcome()
	text := err.Error()
	if strings.Contains(text, "chunk") { // net/http tells it only in words.
		outcome.Reason = "proxy-error"
		if use.secure {
			outcome.Reason = "target-error"
		}
		return outcome
	}
	outcome.Error = codeOf(err)
	return outcome
}

// isHung says whether the proxy has had so much of the lease, or of the caller's time, that it is to blame.
func (use *use) isHung(byLease bool) bool {
	end := use.lease.Deadline()
	whole := time.Duration(use.lease.LeftMs) * time.Millisecond
	if !byLease {
		if deadline, isSet := use.request.Context().Deadline(); isSet {
			end = deadline
		} else {
			end = time.Now()
		}
		whole = end.Sub(use.call)
	}
	took := end.Sub(use.started)
	return float64(took) >= hungShare*float64(whole) && (byLease || took >= hungMin)
}

// isAlert: the other side refused with a TLS alert.
func isAlert(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "remote error"
}

func isCertificate(err error) bool {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	return errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &name)
}

var codes = map[syscall.Errno]string{
	syscall.ECONNREFUSED: "ECONNREFUSED",
	syscall.EHOSTUNREACH: "EHOSTUNREACH",
	syscall.ENETUNREACH:  "ENETUNREACH",
	syscall.EHOSTDOWN:    "EHOSTDOWN",
	syscall.ETIMEDOUT:    "ETIMEDOUT",
	syscall.ECONNABORTED: "ECONNABORTED",
	syscall.ECONNRESET:   "ECONNRESET",
	syscall.EPIPE:        "EPIPE",
}

// codeOf is the code of an error in Node's words, which the policy classifies.
func codeOf(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) && codes[number] != "" {
		return codes[number]
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return "ENOTFOUND"
	}
	var timed net.Error
	if (errors.As(err, &timed) && timed.Timeout()) || errors.Is(err, context.DeadlineExceeded) {
		return "ETIMEDOUT"
	}
	if errors.Is(err, context.Canceled) {
		return "AbortError"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "ECONNRESET"
	}
	return "ECONNRESET" // It was open, and it broke.
}

const retryAfterMax = 366 * 24 * time.Hour

// readRetryAfter reads seconds or a date (RFC 9110). 0 if it is neither.
func readRetryAfter(value string) time.Duration {
	seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // Out of range it is the nearest number.
		if seconds > int64(retryAfterMax/time.Second) {
			return retryAfterMax
		}
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, time.Until(at)), retryAfterMax)
	}
	return 0
}
