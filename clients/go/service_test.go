package remuda

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// With a real service (REMUDA_HTTP_URL), real proxies (PROXIES) and a real site (SITE, SECURE_SITE). Each test has a pool
// of its own, and checks in the end that every request at the site is a use in that pool.

func TestMain(m *testing.M) {
	if os.Getenv("WORKER_POOL") != "" {
		work()
		return
	}
	os.Exit(m.Run())
}

// work fetches SITE through the pool, in several goroutines, until a line comes, and prints how often it was answered.
// Its standard library is the same as that of a user's program.
func work() {
	client, err := New(Options{Pool: os.Getenv("WORKER_POOL"), Retry: time.Minute})
	if err != nil {
		panic(err)
	}
	session := &http.Client{Transport: client.RoundTripper(RoundTripperOptions{Lease: LeaseOptions{Wait: time.Second}})}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	var lock sync.Mutex
	served := 0
	for range [4]int{} {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				reply, err := session.Get(os.Getenv("SITE"))
				var refused *Refused
				if errors.As(err, &refused) {
					continue // It has waited already.
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				_, _ = io.Copy(io.Discard, reply.Body)
				reply.Body.Close()
				lock.Lock()
				served++
				lock.Unlock()
			}
		}()
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	close(stop)
	workers.Wait()
	fmt.Println("served", served)
}

type world struct {
	pool   string
	client *Client
	site   string
	secure string
	tls    *tls.Config
}

func open(t *testing.T, policy string, proxies ...string) *world {
	t.Helper()
	if os.Getenv("REMUDA_HTTP_URL") == "" {
		t.Skip("REMUDA_HTTP_URL names no service")
	}
	t.Parallel()
	name := "go-" + strings.ToLower(t.Name())
	call(t, "PUT", "/v1/pools/"+name, `{"policy":{"rate":null,"concurrency":null,"backoff":{"kind":"none"}`+policy+`}}`)
	var all []string
	if err := json.Unmarshal([]byte(os.Getenv("PROXIES")), &all); err != nil {
		t.Fatal(err)
	}
	for _, each := range append(proxies, all...) { // In this order.
		text, _ := json.Marshal(map[string]any{"proxies": []string{each}})
		call(t, "POST", "/v1/pools/"+name+"/proxies", string(text))
	}
	client, err := New(Options{Pool: name})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	return &world{name, client, os.Getenv("SITE"), os.Getenv("SECURE_SITE"), &tls.Config{RootCAs: trusted}}
}

func call(t *testing.T, method, path, body string) string {
	t.Helper()
	request, err := http.NewRequest(method, os.Getenv("REMUDA_HTTP_URL")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(reply.Body)
	if reply.StatusCode >= 400 {
		t.Fatalf("%s %s: %s", method, path, text)
	}
	return string(text)
}

// expect that the pool has exactly these outcomes, and no open lease. failedMin: at least so many failures.
func (world *world) expect(t *testing.T, succeeded, failedMin, neutral int) {
	t.Helper()
	var stats struct {
		Leases   struct{ Open, Expired int }
		Outcomes struct{ Succeeded, Failed, Neutral, Ignored int }
	}
	if err := json.Unmarshal([]byte(call(t, "GET", "/v1/pools/"+world.pool+"/stats", "")), &stats); err != nil {
		t.Fatal(err)
	}
	told := stats.Outcomes
	if told.Succeeded != succeeded || told.Failed < failedMin || told.Neutral != neutral || told.Ignored != 0 ||
		stats.Leases.Open != 0 || stats.Leases.Expired != 0 || (failedMin == 0 && told.Failed != 0) {
		t.Errorf("%+v", stats)
	}
}

func get(t *testing.T, session *http.Client, url string) string {
	t.Helper()
	reply, err := session.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", reply.StatusCode, text)
}

func TestServiceRoundTrips(t *testing.T) {
	world := open(t, `,"strategy":{"kind":"drain"}`, os.Getenv("DEAD_PROXY"))
	session := &http.Client{Transport: world.client.RoundTripper(RoundTripperOptions{TLS: world.tls})}
	for _, url := range []string{world.site + "/seen", world.site + "/redirect/302?to=/seen", world.secure + "/seen"} {
		if got := get(t, session, url); got != "200 seen\n" {
			t.Errorf("%s: %s", url, got)
		}
	}
	reply, err := session.Post(world.site+"/seen", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err) // The first proxy is dead, so nothing had been sent.
	}
	reply.Body.Close()
	world.expect(t, 5, 1, 0)
}

func TestServiceSpeaksSOCKS(t *testing.T) {
	world := open(t, "", os.Getenv("SOCKS_PROXY"))
	lease := LeaseOptions{Schemes: []string{"socks5", "socks5h"}}
	session := &http.Client{Transport: world.client.RoundTripper(RoundTripperOptions{TLS: world.tls, Lease: lease})}
	for _, url := range []string{world.site + "/seen", world.secure + "/seen"} {
		if got := get(t, session, url); got != "200 seen\n" {
			t.Errorf("%s: %s", url, got)
		}
	}
	world.expect(t, 2, 0, 0)
}

func TestServiceTheCallerClassifies(t *testing.T) {
	world := open(t, "")
	outcome := func(reply *http.Response) (string, error) {
		text, err := io.ReadAll(reply.Body)
		if strings.Contains(string(text), "seen") {
			return "blocked", err
		}
		return "success", err
	}
	session := &http.Client{Transport: world.client.RoundTripper(RoundTripperOptions{Outcome: outcome})}
	if got := get(t, session, world.site+"/seen"); got != "200 seen\n" {
		t.Error(got)
	}
	get(t, session, world.site+"/status/403")
	world.expect(t, 1, 1, 0)
}

func TestServiceACertificateIsTheTargets(t *testing.T) {
	world := open(t, "")
	session := &http.Client{Transport: world.client.RoundTripper(RoundTripperOptions{})}
	if _, err := session.Get(world.secure + "/seen"); err == nil {
		t.Error("its certificate is not trusted")
	}
	world.expect(t, 0, 0, 1)
}

func TestServiceLeasesAndRefuses(t *testing.T) {
	world := open(t, `,"rate":{"limit":3,"windowMs":60000}`)
	ctx := context.Background()
	lease, err := world.client.Lease(ctx, LeaseOptions{Uses: 3, Session: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Report(ctx, Outcome{Status: 200, Latency: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if err := lease.Renew(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err = world.client.Lease(ctx, LeaseOptions{Labels: map[string]string{"no": "such"}}); err == nil {
		t.Fatal("granted")
	}
	var refused *Refused
	if !errors.As(err, &refused) || refused.Code != "no-match" {
		t.Error(err)
	}
	waiting, cancel := context.WithCancel(ctx)
	session := &http.Client{Transport: world.client.RoundTripper(RoundTripperOptions{Lease: LeaseOptions{Wait: time.Minute}})}
	for range [5]int{} {
		get(t, session, world.site+"/seen")
	}
	request, err := http.NewRequestWithContext(waiting, "GET", world.site+"/seen", nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err := session.Do(request); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	world.expect(t, 6, 0, 0)
}

func TestServiceTokens(t *testing.T) {
	world := open(t, `,"token":{"source":{"url":"`+os.Getenv("SITE")+`/seen","value":{"regex":"(se+n)"}},"minAgeMs":0}`)
	token, err := world.client.Token(context.Background(), "", 10*time.Second)
	if err != nil || token.Value != "seen" {
		t.Fatal(token, err)
	}
	if action, err := world.client.RejectToken(context.Background(), "", token.TokenID); err != nil || action == "" {
		t.Error(action, err)
	}
}
