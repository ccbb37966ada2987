package grpcserver_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/proto/castorev1"
)

func TestBlobs(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	eachName(t, w, func(t *testing.T, c grpc.ClientConnInterface) {
		ctx := t.Context()
		rpc := castorev1.NewBlobServiceClient(c)
		for _, size := range []int{0, 1, 256 << 10, 1<<20 + 3} {
			want := castoretest.Pattern(size, uint64(size))
			s, err := rpc.Put(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk(want, 8<<10) { // as upstream
				if err := s.Send(&castorev1.BlobChunk{Data: part}); err != nil {
					t.Fatal(err)
				}
			}
			reply, err := s.CloseAndRecv()
			if err != nil {
				t.Fatal(err)
			}
			stat, err := rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: reply.Digest, SendChunks: true})
			if err != nil || len(stat.Chunks) != 0 {
				t.Errorf("Stat = %v, %v", stat, err)
			}
			chunks, err := all(rpc.Read(ctx, &castorev1.ReadBlobRequest{Digest: reply.Digest}))
			var got []byte
			for _, m := range chunks {
				got = append(got, m.Data...)
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes of %d, %v", len(got), size, err)
			}
		}
		unknown := make([]byte, 32)
		_, err := rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: unknown})
		wantCode(t, "Stat of an unknown blob", err, codes.NotFound, "blake3-")
		_, err = rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: unknown[1:]})
		wantCode(t, "Stat of 31 bytes", err, codes.InvalidArgument, "invalid digest length")
		_, err = all(rpc.Read(ctx, &castorev1.ReadBlobRequest{Digest: unknown}))
		wantCode(t, "Read of an unknown blob", err, codes.NotFound, "blake3-")
		_, err = all(rpc.Read(ctx, &castorev1.ReadBlobRequest{}))
		wantCode(t, "Read of nothing", err, codes.InvalidArgument, "digest length")
	})
}
