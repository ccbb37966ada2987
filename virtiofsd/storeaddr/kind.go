package storeaddr

import "storeboot/virtiofsd/composition"

// kind is one of the three services of a store.
type kind string

const (
	blobs       kind = "blob service"
	directories kind = "directory service"
	pathInfos   kind = "path info service"
)

// table is the table of the kind in a composition file.
func (k kind) table() composition.Kind {
	switch k {
	case blobs:
		return composition.Blobs
	case directories:
		return composition.Directories
	}
	return composition.PathInfos
}

// forms are the addresses that a kind of service can have.
func (k kind) forms() []string {
	const (
		memory = "memory:"
		sled   = "sled:///PATH"
		cache  = "cache:?near=ADDRESS&far=ADDRESS"
		table  = "bigtable://INSTANCE?project_id=ID&table_name=NAME&family_name=NAME"
		redb   = "redb:///FILE"
		sqlite = "sqlite:///FILE"
	)
	buckets := []string{"objectstore+file:///DIR", "objectstore+memory:///", "objectstore+s3://BUCKET/PREFIX", "objectstore+gs://BUCKET/PREFIX", "objectstore+az://CONTAINER/PREFIX", "objectstore+https://HOST/PREFIX"}
	servers := []string{"grpc+unix:///PATH", "grpc+http://HOST:PORT", "grpc+https://HOST:PORT"}
	binaryCaches := []string{"nix+https://HOST?trusted-public-keys=KEYS", "nix+http://HOST?trusted-public-keys=KEYS", "nix+file:///DIR?trusted-public-keys=KEYS", "nix+s3://BUCKET?trusted-public-keys=KEYS"}
	join := func(lists ...[]string) (all []string) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	switch k {
	case blobs:
		return join([]string{memory, "file:///DIR"}, buckets, servers, []string{cache, "combined:?near=ADDRESS&far=ADDRESS", sled})
	case directories:
		return join([]string{memory, sqlite}, buckets, servers, []string{table, cache, redb, sled})
	}
	return join([]string{memory, sqlite}, servers, []string{table, cache, "lru:?capacity=NUMBER", "keyfile-signing:?inner=ADDRESS&keyfile=FILE", redb, sled}, binaryCaches)
}
