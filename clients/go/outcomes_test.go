package remuda

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// Each row of clients/classification.json, over each of its transports, with real connections (LAB).
type row struct{ Phase, What, Transport, Class, Next, URL, Bad, Good string }

// patience is the limit that a row lets pass. Long enough for a second try on a busy machine.
const patience = 3 * time.Second

func classOf(told fixture, outcome Outcome) string {
	if outcome.Reason != "" {
		return outcome.Reason
	}
	if outcome.Result == "success" {
		return "success"
	}
	if outcome.Error != "" {
		if class := told.Error[outcome.Error]; class != "" {
			return class
		}
		return told.ErrorOtherwise
	}
	status := strconv.Itoa(outcome.Status)
	for _, key := range []string{status, status[:1] + "xx"} {
		if class := told.Status[key]; class != "" {
			return class
		}
	}
	return told.StatusOtherwise
}

func TestOutcomes(t *testing.T) {
	text := os.Getenv("LAB")
	if text == "" {
		t.Skip("LAB has no proxies and targets that go wrong")
	}
	var rows []row
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatal(err)
	}
	certificate, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	told := readFixture(t)
	for _, each := range rows {
		each := each
		t.Run(each.Transport+": "+each.What, func(t *testing.T) {
			t.Parallel()
			play(t, told, each, trusted)
		})
	}
}

func play(t *testing.T, told fixture, row row, trusted *x509.CertPool) {
	options := RoundTripperOptions{TunnelHTTP: row.Transport == "CONNECT", TLS: &tls.Config{RootCAs: trusted}}
	service := &standIn{proxies: []string{row.Bad, row.Good}, life: time.Minute, changed: make(chan struct{}, 9)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", row.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	read := func(body io.Reader) { _, _ = io.Copy(io.Discard, body) }
	within := func(limit time.Duration) {
		bounded, stop := context.WithTimeout(ctx, limit)
		t.Cleanup(stop)
		request = request.WithContext(bounded)
	}
	switch row.What {
	case "the proxy does not answer in time", "the other side does not answer in time":
		options.ConnectTimeout = patience
	case "the target's certificate is not valid":
		options.TLS = nil
	case "the answer is a 304 with a Content-Length":
		request.Header.Set("If-None-Match", `"x"`)
	case "no answer comes within `headersTimeoutMs`":
		options.HeadersTimeout = patience
	case "the caller's time limit ends, and the proxy has had half of it", "it drips past the caller's time limit":
		within(patience)
	case "the caller's time limit ends, and the proxy has had less than half of it":
		within(150 * time.Millisecond)
	case "the caller aborts":
		time.AfterFunc(300*time.Millisecond, cancel)
	case "the lease ends, and the request has had half of it", "it drips past the lease's end":
		service.life = patience
	case "nothing comes for `bodyTimeoutMs`":
		options.BodyTimeout = time.Second
	case "the lease ends while the reader has paused":
		service.life = patience
		read = func(io.Reader) { service.reported(t, 1) }
	case "the caller cancels it":
		read = func(io.Reader) {}
	}
	tripper := newRoundTripper(service, options, service.report)
	response, err := tripper.RoundTrip(request)
	got := fmt.Sprint(err)
	if err == nil {
		got = response.Status
		read(response.Body)
		response.Body.Close()
	}
	expected := []string{row.Class}
	if row.Next == "another" {
		expected = append(expected, "success")
	}
	outcomes := service.reported(t, len(expected))
	if len(outcomes) != len(expected) {
		t.Fatalf("%+v, %s", outcomes, got)
	}
	for i, class := range expected {
		if classOf(told, outcomes[i]) != class {
			t.Errorf("outcome %d is %s: %+v, %s; expected %s", i+1, classOf(told, outcomes[i]), outcomes[i], got, class)
		}
	}
	if row.Next == "another" && (err != nil || response.StatusCode != 200) {
		t.Errorf("%s", got)
	}
}
