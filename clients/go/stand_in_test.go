package remuda

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// standIn leases the given proxies in turn, without a service, and keeps the outcomes.
type standIn struct {
	proxies []string
	life    time.Duration

	lock     sync.Mutex
	leases   int
	outcomes []Outcome
	changed  chan struct{}
}

func (service *standIn) Lease(_ context.Context, options LeaseOptions) (*Lease, error) {
	service.lock.Lock()
	defer service.lock.Unlock()
	for _, each := range service.proxies {
		isExcluded := false
		for _, excluded := range options.Exclude {
			isExcluded = isExcluded || excluded == each
		}
		if isExcluded {
			continue
		}
		service.leases++
		parsed, err := url.Parse(each)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(parsed.Port())
		if err != nil {
			return nil, err
		}
		return &Lease{
			LeaseID: fmt.Sprintf("l_%d", service.leases), ProxyID: each, URL: parsed, Scheme: parsed.Scheme,
			Host: parsed.Hostname(), Port: port, Uses: 1, LeftMs: service.life.Milliseconds(),
			deadline: time.Now().Add(service.life), reported: map[int]bool{},
		}, nil
	}
	return nil, &Refused{Code: "pool-exhausted"}
}

func (service *standIn) report(_ context.Context, _ *Lease, outcome Outcome) error {
	service.lock.Lock()
	defer service.lock.Unlock()
	service.outcomes = append(service.outcomes, outcome)
	select {
	case service.changed <- struct{}{}:
	default:
	}
	return nil
}

// reported waits for this many outcomes.
func (service *standIn) reported(t *testing.T, count int) []Outcome {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		service.lock.Lock()
		outcomes := append([]Outcome{}, service.outcomes...)
		service.lock.Unlock()
		if len(outcomes) >= count {
			return outcomes
		}
		select {
		case <-service.changed:
		case <-late:
			t.Fatalf("%d of %d outcomes: %+v", len(outcomes), count, outcomes)
		}
	}
}

// serviceThat answers each request of a client by this function.
func serviceThat(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	client, err := New(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return client
}
