package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/grpcserver"
)

// service is one server of a daemon and the listeners that it serves.
type service struct {
	name      string
	listeners []net.Listener
	serve     func(net.Listener) error // until shutdown
	shutdown  func(context.Context)
	// publicWarning is logged if other machines may be able to connect.
	publicWarning string
}

// serveAll serves until ctx is done or a listener fails, and then lets what is
// under way end within the time of grace.
func serveAll(ctx context.Context, log *slog.Logger, grace time.Duration, services ...service) error {
	running := 0
	failed := make(chan error)
	for _, s := range services {
		for _, l := range s.listeners {
			if s.publicWarning != "" && grpcserver.IsPublic(l) {
				log.Warn(s.publicWarning, "address", l.Addr())
			}
			running++
			go func() { failed <- s.serve(l) }()
		}
		log.Info("listening", "service", s.name, "addresses", grpcserver.Addresses(s.listeners))
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("tell systemd that the daemon is ready", "error", err)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	// The grace begins when ctx has ended, so it has no part in it.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	ended := make(chan struct{})
	for _, s := range services {
		go func() {
			s.shutdown(ending)
			ended <- struct{}{}
		}()
	}
	for left := len(services); left > 0 || running > 0; {
		select {
		case <-ended:
			left--
		case e := <-failed:
			running--
			err = errors.Join(err, e)
		}
	}
	return err
}

func closeListeners(list []net.Listener) {
	for _, l := range list {
		_ = l.Close()
	}
}

// readCertificate reads what --tls-cert and --tls-key name; nil if that is none.
func readCertificate(cert, key string) (*tls.Config, error) {
	if (cert == "") != (key == "") {
		return nil, cli.Usagef("--tls-cert and --tls-key go together")
	}
	if cert == "" {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", cert, key, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}, nil
}

// readToken reads a file with a token; "" if none is named.
func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("read token: %s is empty", file)
	}
	return token, nil
}
