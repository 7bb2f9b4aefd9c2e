package remuda

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type fixture struct {
	Reasons         []string
	Status          map[string]string
	StatusOtherwise string
	Error           map[string]string
	ErrorOtherwise  string
}

func readFixture(t *testing.T) fixture {
	t.Helper()
	text, err := os.ReadFile("../classification.json")
	if err != nil {
		t.Fatal(err)
	}
	var read fixture
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func TestCodesAndReasonsAreThoseOfTheFixture(t *testing.T) {
	told := readFixture(t)
	if strings.Join(told.Reasons, " ") != strings.Join(reasons, " ") {
		t.Errorf("reasons: %v", reasons)
	}
	for number, code := range codes {
		if told.Error[code] == "" {
			t.Errorf("%s is not in the fixture", code)
		}
		if codeOf(&ProxyFailure{Err: syscall.Errno(number)}) != code {
			t.Errorf("%d is not told as %s", number, code)
		}
	}
	if codeOf(context.DeadlineExceeded) != "ETIMEDOUT" || codeOf(io.EOF) != "ECONNRESET" {
		t.Error("a timeout or an end of the stream has another code")
	}
}

func TestOptionsAreCheckedAndComeFromTheEnvironment(t *testing.T) {
	for _, wrong := range []Options{{URL: "ftp://x"}, {URL: "http://u:p@h"}, {URL: "http://h", Key: "a b"}, {URL: "http://h", Pool: "No"}} {
		if _, err := New(wrong); err == nil {
			t.Errorf("%+v is accepted", wrong)
		}
	}
	t.Setenv("REMUDA_HTTP_URL", "http://other:1/")
	t.Setenv("REMUDA_HTTP_KEY", "key")
	client, err := New(Options{})
	if err != nil || client.options.URL != "http://other:1" || client.options.Key != "key" {
		t.Errorf("%v %v", client, err)
	}
	if client, err = New(Options{URL: "http://h"}); err != nil || client.options.Key != "" {
		t.Errorf("a key is sent to another service: %v", err)
	}
}

func TestRepeatsTheSameRequestIDWhileTheServiceIsUnavailable(t *testing.T) {
	var lock sync.Mutex
	ids := map[string]int{}
	client := serviceThat(t, func(writer http.ResponseWriter, request *http.Request) {
		var body struct{ RequestID string }
		_ = json.NewDecoder(request.Body).Decode(&body)
		lock.Lock()
		ids[body.RequestID]++
		count := ids[body.RequestID]
		lock.Unlock()
		switch count {
		case 1:
			panic(http.ErrAbortHandler) // It goes away without an answer.
		case 2:
			writer.WriteHeader(503)
			_, _ = io.WriteString(writer, `{"code":"unavailable","message":"m","retryAfterMs":1}`)
		default:
			writer.WriteHeader(201)
			_, _ = io.WriteString(writer, `{"leaseId":"l_1","pool":"default","url":"http://u:p@127.0.0.1:1","leftMs":1000,"uses":2}`)
		}
	})
	lease, err := client.Lease(context.Background(), LeaseOptions{Uses: 2})
	if err != nil || len(ids) != 1 || lease.URL.Host != "127.0.0.1:1" {
		t.Fatalf("%v %v", ids, err)
	}
	if left := time.Until(lease.Deadline()); left > time.Second {
		t.Errorf("%v left: the lease counts from the sending", left)
	}
}

func TestRefusalsAreTyped(t *testing.T) {
	client := serviceThat(t, func(writer http.ResponseWriter, _ *http.Request) {
		writer.WriteHeader(429)
		_, _ = io.WriteString(writer, `{"code":"pool-exhausted","message":"m","retryAfterMs":1500,"limitedBy":{"rate":2}}`)
	})
	_, err := client.Lease(context.Background(), LeaseOptions{})
	var refused *Refused
	if !errors.As(err, &refused) || refused.RetryAfter != 1500*time.Millisecond || refused.LimitedBy["rate"] != 2 {
		t.Errorf("%v", err)
	}
	if _, err := client.Lease(context.Background(), LeaseOptions{Wait: time.Hour}); err == nil || errors.As(err, &refused) == false && !strings.HasPrefix(err.Error(), "Wait") {
		t.Errorf("%v", err)
	}
}

func TestAWrongKeyAndAnotherProgramAreToldApart(t *testing.T) {
	for status, expected := range map[int]error{401: ErrNotAllowed, 404: ErrNotRemuda} {
		client := serviceThat(t, func(writer http.ResponseWriter, _ *http.Request) { writer.WriteHeader(status) })
		if _, err := client.Lease(context.Background(), LeaseOptions{}); !errors.Is(err, expected) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestUsesAreCounted(t *testing.T) {
	var sent []string
	client := serviceThat(t, func(writer http.ResponseWriter, request *http.Request) {
		text, _ := io.ReadAll(request.Body)
		sent = append(sent, request.Method+" "+request.URL.RequestURI()+" "+string(text))
		if strings.HasSuffix(request.URL.Path, "/outcomes") {
			_, _ = io.WriteString(writer, `{"accepted":1,"stop":[{"leaseId":"l_1","until":1}]}`)
			return
		}
		_, _ = io.WriteString(writer, `{"leaseId":"l_1","pool":"default","url":"http://127.0.0.1:1","leftMs":60000,"uses":3}`)
	})
	ctx := context.Background()
	lease, err := client.Lease(ctx, LeaseOptions{Uses: 3})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := lease.Take(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for range []int{1, 2} {
		if err := lease.Report(ctx, Outcome{Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lease.Take(); !lease.Stopped() || !errors.Is(err, ErrLeaseOver) {
		t.Error("the proxy rests, and a use was taken")
	}
	if err := lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(sent[1], `"n":1`) || !strings.Contains(sent[2], `"n":2`) || !strings.Contains(sent[3], "DELETE /v1/pools/default/leases/l_1?used=2") {
		t.Errorf("%v", sent)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	if readRetryAfter("120") != 2*time.Minute || readRetryAfter("soon") != 0 || readRetryAfter("Wed, 21 Oct 2015 07:28:00 GMT") != 0 {
		t.Error("read otherwise")
	}
	if readRetryAfter("Wed, 21 Oct 2099 07:28:00 GMT") <= 0 {
		t.Error("a date in the future")
	}
	for _, far := range []string{"9999999999", "99999999999999999999", "Wed, 21 Oct 9999 07:28:00 GMT"} {
		if got := readRetryAfter(far); got != retryAfterMax {
			t.Errorf("%s is %v", far, got)
		}
	}
	if got := readRetryAfter("-99999999999999999999"); got != 0 {
		t.Errorf("a negative number is %v", got)
	}
}

func TestSeveralLeasesAreEachALease(t *testing.T) {
	var lock sync.Mutex
	var sent []string
	client := serviceThat(t, func(writer http.ResponseWriter, request *http.Request) {
		text, _ := io.ReadAll(request.Body)
		lock.Lock()
		sent = append(sent, string(text))
		lock.Unlock()
		if strings.HasSuffix(request.URL.Path, "/outcomes") {
			_, _ = io.WriteString(writer, `{"accepted":1}`)
			return
		}
		_, _ = io.WriteString(writer, `{"leases":[
			{"leaseId":"l_1","pool":"default","url":"http://127.0.0.1:1","leftMs":60000,"uses":1},
			{"leaseId":"l_2","pool":"default","url":"http://u:p@127.0.0.1:2","leftMs":60000,"uses":1}]}`)
	})
	ctx := context.Background()
	leases, err := client.Leases(ctx, 3, LeaseOptions{})
	if err != nil || len(leases) != 2 || leases[1].URL.Port() != "2" || !strings.Contains(sent[0], `"count":3`) {
		t.Fatal(leases, sent, err)
	}
	for _, lease := range leases {
		if err := lease.Report(ctx, Outcome{Status: 200}); err != nil {
			t.Error(err)
		}
	}
	if _, err := leases[0].Take(); !errors.Is(err, ErrLeaseOver) {
		t.Error(err)
	}
	if _, err := client.Leases(ctx, 0, LeaseOptions{}); err == nil || !strings.HasPrefix(err.Error(), "count") {
		t.Error(err)
	}
}

func TestARequestForOneVeryProxyDoesNotWait(t *testing.T) {
	var sent string
	client := serviceThat(t, func(writer http.ResponseWriter, request *http.Request) {
		text, _ := io.ReadAll(request.Body)
		sent = string(text)
		_, _ = io.WriteString(writer, `{"leaseId":"l_1","pool":"default","url":"http://127.0.0.1:1","leftMs":1000,"uses":1}`)
	})
	for proxy, waits := range map[string]bool{"p_1": false, "": true} {
		if _, err := client.Lease(context.Background(), LeaseOptions{ProxyID: proxy, Wait: time.Second}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(sent, "waitMs") != waits {
			t.Error(sent)
		}
	}
}

func TestAReportThatFailedIsRepeatedForTheSameUse(t *testing.T) {
	var sent []string
	client := serviceThat(t, func(writer http.ResponseWriter, request *http.Request) {
		text, _ := io.ReadAll(request.Body)
		sent = append(sent, string(text))
		switch len(sent) {
		case 1:
			_, _ = io.WriteString(writer, `{"leaseId":"l_1","pool":"default","url":"http://127.0.0.1:1","leftMs":60000,"uses":2}`)
		case 2:
			writer.WriteHeader(404)
			_, _ = io.WriteString(writer, `{"code":"unknown-pool","message":"m"}`)
		default:
			_, _ = io.WriteString(writer, `{"accepted":1}`)
		}
	})
	ctx := context.Background()
	lease, err := client.Lease(ctx, LeaseOptions{Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	var refused *Refused
	if err := lease.Report(ctx, Outcome{Status: 200}); !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if err := lease.Report(ctx, Outcome{Status: 200}); err != nil || !strings.Contains(sent[2], `"n":1`) {
		t.Error(sent, err)
	}
}
