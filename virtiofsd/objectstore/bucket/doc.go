// Package bucket is where objects are kept: a directory of the local file
// system, memory, S3, Google Cloud Storage, Azure, or an HTTP server that takes
// PUT. A [Bucket] is the little that a store of write-once objects needs.
//
// Addresses, after the "objectstore+" that may stand in front
// (spec/store.md 2.2, 2.3):
//
//	file:///DIR
//	memory:///
//	s3://BUCKET/PREFIX (s3a)
//	gs://BUCKET/PREFIX
//	az://CONTAINER/PREFIX (adl, azure), abfs[s]://CONTAINER@ACCOUNT.DOMAIN/PREFIX
//	http[s]://HOST/PREFIX
//
// Parameters of the query are those that snix passes to its object store, under
// all their names. One that is unknown, given twice or of no use for the kind of
// store is an error. Where no parameter gives credentials, they come from the
// environment as the cloud's own tools read them.
//
// # Faults
//
// Every request to a remote store has a limit of time, which grows with what is
// transferred at [minRate], and is made up to [attempts] times, with growing
// pauses between. An error that a repeat cannot mend is returned at once.
//
// # Durability
//
// A remote store has an object for good when it says so. Objects in files get
// their names, which are only ever whole objects, at Flush: see [local].
//
// # Limits and trust
//
// What is read is what the store gives: callers check it. An object larger
// than its reader allows is an error before it is in memory.
package bucket
