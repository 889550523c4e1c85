package servers

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// Proxy is an HTTP server on loopback in front of another one. A test decides for each request
// whether it gets there and what comes back. Signatures stay valid: the Host header is passed on.
type Proxy struct {
	URL string // http://127.0.0.1:port

	srv    *httptest.Server
	tr     *http.Transport
	behave atomic.Pointer[Behaviour]
	closed context.Context // ends the requests under way
	end    context.CancelFunc
}

// Behaviour answers a request, with the help of next, which asks the real server.
type Behaviour func(w http.ResponseWriter, r *http.Request, next http.Handler)

// NewProxy starts a proxy in front of target (http://host:port) that passes everything on. It ends
// with the test, or with Close.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{}
	p.closed, p.end = context.WithCancel(t.Context())
	p.tr = &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	next := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
		},
		Transport:     p.tr,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // broken connections are what tests want
	}
	p.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server notices a client that went only after it has read the whole body.
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(p.closed, cancel)()
		r = r.WithContext(ctx)
		if b := p.behave.Load(); b != nil {
			(*b)(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}))
	p.srv.Config.ErrorLog = next.ErrorLog
	p.srv.Start()
	p.URL = p.srv.URL
	t.Cleanup(p.Close)
	return p
}

// Behave sets what the proxy does from now on; nil passes everything on.
func (p *Proxy) Behave(b Behaviour) {
	if b == nil {
		p.behave.Store(nil)
		return
	}
	p.behave.Store(&b)
}

// Close breaks all connections and waits for the requests under way. Closing twice does nothing.
func (p *Proxy) Close() {
	p.end()
	p.srv.CloseClientConnections()
	p.srv.Close()
	p.tr.CloseIdleConnections()
}
