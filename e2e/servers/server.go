package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/coldbrook/coldbrook/e2e/ports"
)

const (
	startTimeout = 60 * time.Second
	keepLog      = 64 << 10
)

// S3Server is one running S3 server. Its methods are safe for concurrent use.
type S3Server struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string
	Dir       string // where it stores

	Server
}

// Server is a process that can be stopped and started again.
type Server struct {
	path  string
	args  []string
	env   []string
	ready string // URL that answers 200 once the server works

	mu   sync.Mutex
	proc *process // nil while stopped
	log  tailWriter
}

// process is one life of a server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the process was waited for
	err  error         // its end; read after done
}

// StartMinIO starts a MinIO server that stores below dir, building MinIO first when it is not
// cached, with further environment variables. The caller stops it.
func StartMinIO(ctx context.Context, dir string, env ...string) (*S3Server, error) {
	path, err := Binary(ctx, MinIOTool())
	if err != nil {
		return nil, err
	}
	addr, err := ports.Free("127.0.0.1")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	s := newServer(addr, dir)
	s.path, s.ready = path, s.Endpoint+"/minio/health/ready"
	s.args = []string{"server", "--quiet", "--address", addr, "--console-address", "127.0.0.1:0", "--certs-dir", filepath.Join(dir, "certs"), data}
	s.env = []string{"HOME=" + dir, "MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=1", "MINIO_CALLHOME_ENABLE=off", "_MINIO_SERVER_DEBUG=off"}
	s.env = append(s.env, env...)
	return s, s.Start(ctx)
}

// StartVersity starts a versitygw server over a directory, building it first when it is not
// cached. The caller stops it.
func StartVersity(ctx context.Context, dir string) (*S3Server, error) {
	path, err := Binary(ctx, VersityTool())
	if err != nil {
		return nil, err
	}
	addr, err := ports.Free("127.0.0.1")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	s := newServer(addr, dir)
	s.path, s.ready = path, s.Endpoint+"/ready"
	s.args = []string{"--port", addr, "--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region,
		"--health", "/ready", "--quiet", "--keep-alive", "posix"}
	if !hasXattrs(dir) {
		meta := filepath.Join(dir, "meta")
		if err := os.MkdirAll(meta, 0o755); err != nil {
			return nil, err
		}
		s.args = append(s.args, "--sidecar", meta)
	}
	s.args = append(s.args, data)
	s.env = []string{"HOME=" + dir}
	return s, s.Start(ctx)
}

func newServer(addr, dir string) *S3Server {
	return &S3Server{Endpoint: "http://" + addr, AccessKey: "coldbrook-test", SecretKey: "coldbrook-test-secret", Region: "us-east-1", Dir: dir}
}

// Start starts a stopped server on its port and returns when it answers. Starting a running server
// does nothing.
func (s *Server) Start(ctx context.Context) error {
	p, err := s.spawn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = s.waitReady(ctx, p)
	if err != nil {
		err = errors.Join(err, s.Stop())
	}
	return err
}

func (s *Server) spawn() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return s.proc, nil
	}
	cmd := exec.Command(s.path, s.args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, s.env...)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() { // ends with the process; Stop waits for it
		p.err = cmd.Wait()
		close(p.done)
	}()
	s.proc = p
	return p, nil
}

func (s *Server) waitReady(ctx context.Context, p *process) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.ready, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", s.path, p.err, s.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready at %s: %w\n%s", s.path, s.ready, ctx.Err(), s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop kills the server and waits for its end. What it stored stays. Stopping a stopped server
// does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	p := s.proc
	s.proc = nil
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// PID is the running server's process id, or 0.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Log is the end of what the server wrote so far.
func (s *Server) Log() string { return s.log.String() }

// CreateBucket makes a bucket; one that exists already is no error.
func (s *S3Server) CreateBucket(ctx context.Context, name string) error {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return err
	}
	tr := &http.Transport{DisableKeepAlives: true}
	c, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, Transport: tr})
	if err != nil {
		return err
	}
	err = c.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.Region})
	if code := minio.ToErrorResponse(err).Code; err != nil && code != "BucketAlreadyOwnedByYou" && code != "BucketAlreadyExists" {
		return fmt.Errorf("create bucket %s at %s: %w", name, s.Endpoint, err)
	}
	return nil
}

// S3URL is the bucket's URL for the s3 driver, MinIOURL the one for the minio driver. Credentials
// come from Env.
func (s *S3Server) S3URL(bucketAndPrefix string) string {
	return "s3://" + bucketAndPrefix + "?region=" + s.Region + "&path_style=true&endpoint=" + url.QueryEscape(s.Endpoint)
}

// MinIOURL is the bucket's URL for the minio driver.
func (s *S3Server) MinIOURL(bucketAndPrefix string) string {
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return ""
	}
	return "minio://" + u.Host + "/" + bucketAndPrefix + "?secure=false"
}

// Env returns the variables from which both drivers read this server's credentials.
func (s *S3Server) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey}
}

// tailWriter keeps the last bytes written to it.
type tailWriter struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf.Len()+len(p) > 2*keepLog {
		w.buf.Next(w.buf.Len() - min(w.buf.Len(), keepLog))
	}
	return w.buf.Write(p)
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
