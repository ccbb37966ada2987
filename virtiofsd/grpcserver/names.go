package grpcserver

import (
	"strings"

	"google.golang.org/grpc"

	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
	"storeboot/virtiofsd/proto/tvixcastorev1"
	"storeboot/virtiofsd/proto/tvixstorev1"
)

// register registers every service under the names of snix and of tvix. For
// reflection each has the file that it is described in.
func (s *Server) register() {
	for _, x := range []struct {
		desc     *grpc.ServiceDesc
		handler  any
		tvixFile string
	}{
		{&castorev1.BlobService_ServiceDesc, &blobServer{Server: s}, tvixcastorev1.File_tvix_castore_protos_rpc_blobstore_proto.Path()},
		{&castorev1.DirectoryService_ServiceDesc, &directoryServer{Server: s}, tvixcastorev1.File_tvix_castore_protos_rpc_directory_proto.Path()},
		{&storev1.PathInfoService_ServiceDesc, &pathInfoServer{Server: s}, tvixstorev1.File_tvix_store_protos_rpc_pathinfo_proto.Path()},
	} {
		if x.desc == &storev1.PathInfoService_ServiceDesc && s.pathInfos == nil {
			continue
		}
		s.grpc.RegisterService(x.desc, x.handler)
		tvix := *x.desc // the messages have the same encodings
		tvix.ServiceName = "tvix." + strings.TrimPrefix(x.desc.ServiceName, "snix.")
		tvix.Metadata = x.tvixFile
		s.grpc.RegisterService(&tvix, x.handler)
	}
}
