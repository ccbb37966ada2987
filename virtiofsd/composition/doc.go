// Package composition is the composition file of tvix and snix: the services
// that a store is made of, by name, in TOML. Source: spec/store.md 2.4.
//
//	[blobservices.root]
//	type = "combined"                 # or "cache": far is copied to near
//	near = "disk"
//	far = "grpc+https://store.example:8000"
//
//	[blobservices.disk]
//	type = "file"
//	path = "/var/cache/blobs"
//
//	[directoryservices.root] ...
//	[pathinfoservices.root] ...
//
// Each of the three tables has a service of the name root, which is the one that
// is used. A reference is the name of a service in the same table, or an address
// as the flags take it. Types and keys:
//
//	memory           all
//	file             blobs: path
//	sqlite           directories, path infos: path
//	redb             directories, path infos: path, is_temporary
//	objectstore      blobs, directories: object_store_url, object_store_options
//	                 (table of strings, numbers and truth values); blobs:
//	                 avg_chunk_size in bytes
//	grpc             all: url
//	bigtable         directories, path infos: project_id, instance_name,
//	                 table_name, family_name, app_profile_id, channel_size,
//	                 timeout (seconds), is_read_only
//	cache            all: near, far
//	combined         blobs: the same
//	lru              path infos: capacity
//	keyfile-signing  path infos: inner, keyfile
//
// A file is read strictly: what is not named here, a key without meaning, a
// reference to nothing or in a circle is an error that names the line, in every
// service, whether it is used or not.
//
// The package reads and checks; package storeaddr checks addresses and opens
// what the file describes. A file has at most [MaxSize] bytes and is at most 16
// tables deep. Whoever writes it is trusted, as whoever gives flags is.
package composition
