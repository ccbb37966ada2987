// The generator of the code beside it. A module of its own, so that what only
// the generator needs is no dependency of the programs.
module storeboot/virtiofsd/proto/generate

go 1.26.0

tool google.golang.org/grpc/cmd/protoc-gen-go-grpc

require (
	github.com/bufbuild/protocompile v0.14.1
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/sync v0.8.0 // indirect
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2 // indirect
)
