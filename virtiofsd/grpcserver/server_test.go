package grpcserver_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/proto/castorev1"
)

func TestHealth(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	rpc := healthv1.NewHealthClient(w.conn)
	if r, err := rpc.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || r.Status != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("Check = %v, %v", r, err)
	}
	_, err := rpc.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "snix.castore.v1.BlobService"})
	wantCode(t, "Check of a service", err, codes.NotFound, "")
}

func TestReflection(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	want := []string{
		"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"snix.castore.v1.BlobService", "snix.castore.v1.DirectoryService", "snix.store.v1.PathInfoService",
		"tvix.castore.v1.BlobService", "tvix.castore.v1.DirectoryService", "tvix.store.v1.PathInfoService",
	}
	s, err := reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
		reply, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	var got []string
	for _, x := range ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
		got = append(got, x.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("services %q, want %q", got, want)
	}
	for _, symbol := range []string{"snix.store.v1.PathInfoService", "tvix.store.v1.PathInfoService", "snix.castore.v1.Entry", "tvix.castore.v1.Node", "tvix.castore.v1.BlobService.Stat"} {
		r := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		if len(r.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s is in no file: %v", symbol, r.GetErrorResponse())
		}
	}
	alpha, err := reflectionv1alpha.NewServerReflectionClient(w.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := alpha.Send(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if r, err := alpha.Recv(); err != nil || len(r.GetListServicesResponse().GetService()) != len(want) {
		t.Errorf("v1alpha: %v, %v", r, err)
	}
}

func TestToken(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{Token: "secret"})
	rpc := castorev1.NewBlobServiceClient(w.conn)
	stat := func(header ...string) error {
		_, err := rpc.Stat(metadata.AppendToOutgoingContext(t.Context(), header...), &castorev1.StatBlobRequest{Digest: castore.EmptyBlob[:]})
		return err
	}
	for _, header := range [][]string{nil, {"authorization", "Bearer"}, {"authorization", "Bearer secre"}, {"authorization", "Basic secret"}, {"authorization", "Bearer x", "authorization", "Bearer secret"}} {
		wantCode(t, strings.Join(header, " "), stat(header...), codes.Unauthenticated, "token")
	}
	for _, header := range []string{"Bearer secret", "bearer secret"} {
		if err := stat("authorization", header); err != nil {
			t.Errorf("%s: %v", header, err)
		}
	}
	s, err := rpc.Put(t.Context())
	if err == nil {
		_, err = s.CloseAndRecv()
	}
	wantCode(t, "stream without token", err, codes.Unauthenticated, "token")
	if _, err := healthv1.NewHealthClient(w.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health without token: %v", err)
	}
}
