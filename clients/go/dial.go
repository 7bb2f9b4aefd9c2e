package remuda

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// dialThrough connects to the proxy of the request's lease, and makes a tunnel through it unless the request is
// forwarded. Go's own tunnels tell the proxy's status only in words.
func dialThrough(limit time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		bounded, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		through := ctx.Value(leaseKey{}).(*passage)
		proxy := through.lease.URL
		at := address
		if !through.forwarded {
			at = net.JoinHostPort(through.lease.Host, strconv.Itoa(through.lease.Port))
		}
		connection, err := (&net.Dialer{}).DialContext(bounded, network, at)
		if err != nil {
			return nil, &ProxyFailure{Err: err}
		}
		if through.forwarded {
			return connection, nil
		}
		tunnel, err := throughTunnel(bounded, connection, proxy, address)
		if err != nil {
			connection.Close()
			return nil, err
		}
		return tunnel, nil
	}
}

func throughTunnel(ctx context.Context, connection net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	done := make(chan struct{})
	defer close(done)
	go func() { // The handshake ends with its context.
		select {
		case <-ctx.Done():
			connection.SetDeadline(time.Unix(1, 0))
		case <-done:
		}
	}()
	var err error
	tunnel := connection
	switch proxy.Scheme {
	case "http":
		err = connect(connection, proxy, address)
	case "https":
		secure := tls.Client(connection, &tls.Config{ServerName: proxy.Hostname()})
		if err = secure.HandshakeContext(ctx); err == nil {
			err = connect(secure, proxy, address)
		}
		tunnel = secure
	case "socks5", "socks5h":
		err = socks(ctx, connection, proxy, address)
	default:
		err = &ProxyFailure{Reason: "proxy-error", Err: errors.New("a proxy of the scheme " + proxy.Scheme)}
	}
	if err != nil && ctx.Err() != nil {
		return nil, &ProxyFailure{Err: ctx.Err()}
	}
	var proxys *ProxyFailure
	var name *targetNameFailure
	if err != nil && !errors.As(err, &proxys) && !errors.As(err, &name) {
		return nil, &ProxyFailure{Err: err}
	}
	return tunnel, err
}

func connect(connection net.Conn, proxy *url.URL, address string) error {
	auth := ""
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		login := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
		auth = "Proxy-Authorization: Basic " + login + "\r\n"
	}
	if _, err := fmt.Fprintf(connection, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", address, address, auth); err != nil {
		return err
	}
	// A byte at a time: what follows the head belongs to the tunnel.
	reader := bufio.NewReaderSize(&headReader{connection: connection}, 1<<14)
	answer, err := http.ReadResponse(reader, &http.Request{Method: "CONNECT"})
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isNetwork(err) {
			return err
		}
		return &ProxyFailure{Reason: "proxy-error", Err: errors.New("it does not speak HTTP")}
	}
	if answer.StatusCode == http.StatusProxyAuthRequired {
		return &ProxyFailure{Reason: "proxy-auth", Status: answer.StatusCode}
	}
	if answer.StatusCode/100 != 2 {
		return &ProxyFailure{Reason: "proxy-error", Status: answer.StatusCode}
	}
	return nil
}

func isNetwork(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation)
}

// headReader gives a byte at a time, and ends after an empty line.
type headReader struct {
	connection net.Conn
	last       []byte
}

func (reader *headReader) Read(into []byte) (int, error) {
	if strings.HasSuffix(string(reader.last), "\r\n\r\n") || len(reader.last) > 1<<14 {
		return 0, io.EOF
	}
	count, err := reader.connection.Read(into[:1])
	reader.last = append(reader.last, into[:count]...)
	return count, err
}

// socks makes a tunnel by RFC 1928 and RFC 1929.
func socks(ctx context.Context, connection net.Conn, proxy *url.URL, address string) error {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return &targetNameFailure{err}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return &targetNameFailure{err}
	}
	way := byte(0)
	if proxy.User != nil {
		way = 2
	}
	answer := make([]byte, 4)
	if err := exchange(connection, []byte{5, 1, way}, answer[:2]); err != nil {
		return err
	}
	if answer[0] != 5 {
		return &ProxyFailure{Reason: "proxy-error", Err: errors.New("it does not speak SOCKS 5")}
	}
	if answer[1] != way {
		return &ProxyFailure{Reason: "proxy-auth", Err: errors.New("it asks for another login")}
	}
	if way == 2 {
		name := proxy.User.Username()
		password, _ := proxy.User.Password()
		if len(name) > 255 || len(password) > 255 {
			return &ProxyFailure{Reason: "proxy-auth", Err: errors.New("a SOCKS login has at most 255 bytes each")}
		}
		login := append([]byte{1, byte(len(name))}, name...)
		login = append(append(login, byte(len(password))), password...)
		if err := exchange(connection, login, answer[:2]); err != nil {
			return err
		}
		if answer[1] != 0 {
			return &ProxyFailure{Reason: "proxy-auth", Err: errors.New("it does not accept its login")}
		}
	}
	target, err := socksAddress(ctx, host, proxy.Scheme == "socks5h")
	if err != nil {
		return err
	}
	request := append(append([]byte{5, 1, 0}, target...), byte(port>>8), byte(port))
	if err := exchange(connection, request, answer); err != nil {
		return err
	}
	if answer[1] != 0 {
		return &ProxyFailure{Reason: "proxy-error", Err: fmt.Errorf("it refused the tunnel (SOCKS %d)", answer[1])}
	}
	size := map[byte]int{1: 4, 4: 16}[answer[3]]
	if size == 0 {
		if _, err := io.ReadFull(connection, answer[:1]); err != nil {
			return err
		}
		size = int(answer[0])
	}
	_, err = io.ReadFull(connection, make([]byte, size+2))
	return err
}

func socksAddress(ctx context.Context, host string, byName bool) ([]byte, error) {
	ip, err := netip.ParseAddr(host)
	if err != nil && byName {
		return append([]byte{3, byte(len(host))}, host...), nil
	}
	if err != nil {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(found) == 0 {
			return nil, &targetNameFailure{fmt.Errorf("no address for %s", host)}
		}
		ip = found[0].Unmap()
	}
	if ip.Is4() {
		return append([]byte{1}, ip.AsSlice()...), nil
	}
	return append([]byte{4}, ip.AsSlice()...), nil
}

func exchange(connection net.Conn, send, into []byte) error {
	if _, err := connection.Write(send); err != nil {
		return err
	}
	_, err := io.ReadFull(connection, into)
	return err
}
