package bigtabletest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// changing are the methods that change something, of the data and of the
// administration service.
var changing = []string{
	"CreateTable", "DeleteTable", "ModifyColumnFamilies", "DropRowRange",
	"MutateRow", "MutateRows", "CheckAndMutateRow", "ReadModifyWriteRow",
}

// replayKey marks the calls that are made again at the start.
const replayKey = "x-replay"

// journal is the file of requests: each the name of the method and the message,
// both behind their lengths (uvarint). What a killed process wrote in part is at
// the end, was never answered, and is cut off.
type journal struct {
	mu    sync.Mutex // held while a change is written and carried out
	file  *os.File
	ready chan struct{} // closed when all is as the file says
}

// wait keeps others out until the journal was replayed, and says whether the call
// is to be written to it.
func (j *journal) wait(ctx context.Context, method string) (write bool, err error) {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get(replayKey)) > 0 {
		return false, nil
	}
	select {
	case <-j.ready:
		return slices.Contains(changing, path.Base(method)), nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (j *journal) write(method string, request any) error {
	b, err := proto.Marshal(request.(proto.Message))
	if err != nil {
		return err
	}
	record := binary.AppendUvarint(nil, uint64(len(method)))
	record = append(record, method...)
	record = binary.AppendUvarint(record, uint64(len(b)))
	_, err = j.file.Write(append(record, b...))
	return err
}

func (j *journal) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	write, err := j.wait(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if write {
		j.mu.Lock()
		defer j.mu.Unlock()
		if err := j.write(info.FullMethod, request); err != nil {
			return nil, err
		}
	}
	return handler(ctx, request)
}

func (j *journal) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	write, err := j.wait(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if write {
		j.mu.Lock()
		defer j.mu.Unlock()
		stream = &journaled{stream, j, info.FullMethod}
	}
	return handler(srv, stream)
}

// journaled is a stream of one request.
type journaled struct {
	grpc.ServerStream
	journal *journal
	method  string
}

func (s *journaled) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.journal.write(s.method, m)
}

// replay makes all requests of the file again, and leaves it at its end. What a
// request came to then is what it came to the first time.
func (j *journal) replay(ctx context.Context, conn *grpc.ClientConn) error {
	ctx = metadata.AppendToOutgoingContext(ctx, replayKey, "1")
	r := bufio.NewReader(j.file)
	var end int64
	for {
		method, n, err := readField(r)
		if err == nil {
			var request []byte
			var m int64
			if request, m, err = readField(r); err == nil {
				end += n + m
				call(ctx, conn, string(method), request)
				continue
			}
		}
		if err != io.EOF && err != io.ErrUnexpectedEOF {
			return fmt.Errorf("read %s: %w", j.file.Name(), err)
		}
		if err := j.file.Truncate(end); err != nil {
			return err
		}
		_, err = j.file.Seek(end, io.SeekStart)
		return err
	}
}

// readField reads bytes behind their length, and says how much it read.
func readField(r *bufio.Reader) ([]byte, int64, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, 0, io.ErrUnexpectedEOF
	}
	return b, int64(len(binary.AppendUvarint(nil, n))) + int64(n), nil
}

// call makes a call of one encoded request and takes all answers.
func call(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return
	}
	_ = stream.SendMsg(request) // a failure shows in what follows
	_ = stream.CloseSend()
	for err == nil {
		var answer []byte
		err = stream.RecvMsg(&answer)
	}
}

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Name() string                       { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
