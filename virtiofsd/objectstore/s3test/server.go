package s3test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	program = "github.com/versity/versitygw/cmd/versitygw"
	version = "v1.8.0"

	accessKey = "testaccess"
	secretKey = "testsecret"
)

// Server is a running S3 server. It ends with its test.
type Server struct {
	// Endpoint is the URL of the server, on loopback.
	Endpoint string
	// Dir holds a directory for each bucket, with a file for each object.
	Dir string

	process  *exec.Cmd
	binary   string
	metadata string // of objects and buckets
}

// Start starts a server. The test is skipped if the program cannot be had, and
// fails instead where the environment variable CI is set.
func Start(t testing.TB) *Server {
	t.Helper()
	binary, err := install()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no S3 server: %v", err)
		}
		t.Skipf("SKIP: no S3 server: %v", err)
	}
	s := &Server{Dir: t.TempDir(), binary: binary, metadata: t.TempDir()}
	s.Run(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Credentials are those of the server.
func Credentials() (accessKeyID, secretAccessKey string) { return accessKey, secretKey }

// Run starts the program, at the start and after Kill.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	if s.Endpoint == "" {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		s.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", port)
	}
	where, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	s.process = exec.Command(s.binary, "--access", accessKey, "--secret", secretKey, "--port", where.Host, "--quiet", "posix", "--sidecar", s.metadata, s.Dir)
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", where.Host)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the S3 server does not answer: %v\n%s", err, text)
		}
	}
}

// Kill ends the program at once.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.Process.Kill(); err != nil && err != os.ErrProcessDone {
		t.Error(err)
	}
	_ = s.process.Wait() // it was killed
}

// Bucket makes a bucket and returns the address of a prefix in it, with
// parameters in the names that snix's own test uses.
func (s *Server) Bucket(t testing.TB, name, prefix string) string {
	t.Helper()
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint),
		UsePathStyle: true,
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
	if _, err := client.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatal(err)
	}
	return "objectstore+s3://" + name + "/" + prefix + "?" + url.Values{
		"aws_access_key_id":     {accessKey},
		"aws_secret_access_key": {secretKey},
		"aws_endpoint_url":      {s.Endpoint},
		"aws_allow_http":        {"1"},
	}.Encode()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
