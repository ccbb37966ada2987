package grpcserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// requireToken refuses calls without the token before anything of them is read.
// Whether the server is alive may be asked without.
func requireToken(token string) tap.ServerInHandle {
	want := sha256.Sum256([]byte(token)) // so that the comparison tells no length
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if info.FullMethodName == healthv1.Health_Check_FullMethodName {
			return ctx, nil
		}
		if values := info.Header.Get("authorization"); len(values) == 1 {
			scheme, value, _ := strings.Cut(values[0], " ")
			got := sha256.Sum256([]byte(value))
			if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
				return ctx, nil
			}
		}
		return ctx, status.Error(codes.Unauthenticated, "the server wants a bearer token")
	}
}

// idleInterceptor ends a stream whose peer lets the server wait for longer than
// idle. Watching the health is waiting by its nature.
func idleInterceptor(idle time.Duration) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if info.FullMethod == healthv1.Health_Watch_FullMethodName {
			return handler(srv, ss)
		}
		return handler(srv, &idleStream{ServerStream: ss, idle: idle})
	}
}

// idleStream bounds how long a message may take to come or go. When it takes
// longer, the call in it goes on until the handler returns, which ends it.
type idleStream struct {
	grpc.ServerStream
	idle time.Duration
}

func (s *idleStream) RecvMsg(m any) error {
	return s.bounded(func() error { return s.ServerStream.RecvMsg(m) }, "sent nothing")
}

func (s *idleStream) SendMsg(m any) error {
	return s.bounded(func() error { return s.ServerStream.SendMsg(m) }, "took nothing")
}

func (s *idleStream) bounded(f func() error, what string) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(s.idle)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return status.Errorf(codes.DeadlineExceeded, "the client %s for %v", what, s.idle)
	}
}
