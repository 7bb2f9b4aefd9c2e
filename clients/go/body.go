package remuda

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// body is an answer's body, observed. Its end is the end of the use.
type body struct {
	use   *use
	inner io.ReadCloser

	lock     sync.Mutex
	reading  bool
	pausedAt time.Time
	paused   time.Duration
	isLate   bool
	piece    *time.Timer
	end      *time.Timer
}

func (use *use) observed(inner io.ReadCloser) io.ReadCloser {
	observed := &body{use: use, inner: inner, pausedAt: time.Now()}
	observed.lock.Lock()
	defer observed.lock.Unlock()
	// At the lease's end a body is cut, even one that is never read.
	observed.end = time.AfterFunc(time.Until(use.lease.Deadline()), func() { observed.cut(context.DeadlineExceeded, true) })
	return observed
}

func (body *body) Read(into []byte) (int, error) {
	body.lock.Lock()
	body.reading = true
	body.paused += time.Since(body.pausedAt)
	body.piece = time.AfterFunc(body.use.tripper.options.BodyTimeout, func() {
		body.lock.Lock()
		body.isLate = true
		body.lock.Unlock()
		body.use.cancel()
	})
	body.lock.Unlock()

	count, err := body.inner.Read(into)

	body.lock.Lock()
	body.piece.Stop()
	body.reading = false
	body.pausedAt = time.Now()
	isLate := body.isLate
	body.lock.Unlock()
	body.use.lock.Lock()
	body.use.bytes += int64(count)
	body.use.lock.Unlock()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		body.finish(body.use.headOutcome())
	case isLate:
		outcome := body.use.headOutcome()
		outcome.Error = "ETIMEDOUT"
		body.finish(outcome)
	case body.use.request.Context().Err() != nil:
		body.cut(body.use.request.Context().Err(), false)
	case !time.Now().Before(body.use.lease.Deadline()):
		body.cut(context.DeadlineExceeded, true)
		err = errLeaseEnd
	default:
		body.finish(body.use.bodyFailure(err))
	}
	return count, err
}

// Close ends the use. If the body was not read to its end, the status counts.
func (body *body) Close() error {
	err := body.inner.Close()
	body.finish(body.use.headOutcome())
	return err
}

// cut ends the use by its lease or its caller. The target was reached, so its status counts, unless the proxy let the
// body drip while its reader was waiting.
func (body *body) cut(why error, byLease bool) {
	whole := time.Since(body.use.headedAt())
	body.lock.Lock()
	waited := whole - body.paused
	if !body.reading {
		waited -= time.Since(body.pausedAt)
	}
	body.lock.Unlock()
	outcome := body.use.headOutcome()
	isLimit := byLease || errors.Is(why, context.DeadlineExceeded)
	// A reader that paused most of the time says nothing about the proxy.
	drips := 2*waited >= whole && float64(body.use.received()) < dripBytesPerSecond*waited.Seconds()
	if isLimit && drips && body.use.isHung(byLease) {
		outcome.Reason = "timeout"
	}
	body.finish(outcome)
}

func (body *body) finish(outcome Outcome) {
	body.lock.Lock()
	body.end.Stop()
	body.lock.Unlock()
	body.use.end(outcome)
}

func (use *use) headOutcome() Outcome {
	use.lock.Lock()
	defer use.lock.Unlock()
	return use.head
}

func (use *use) headedAt() time.Time {
	use.lock.Lock()
	defer use.lock.Unlock()
	return use.headed
}

func (use *use) received() int64 {
	use.lock.Lock()
	defer use.lock.Unlock()
	return use.bytes
}
