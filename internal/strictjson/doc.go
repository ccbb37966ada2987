// Package strictjson reads and writes small JSON documents (RFC 8259) without
// reflection. init reads its specifications with it: under an emulated processor
// each piece of code that runs once is dear, and encoding/json is much code (40 ms
// of a boot of 700 ms under QEMU's TCG, for nine modules).
//
// It is stricter than encoding/json: a key counts as it is written and once in an
// object, text is valid UTF-8, numbers are integers. What it reads, encoding/json
// reads too, to the same values; a fuzz test holds that. null stands for a value
// that is not given.
//
// Limits: a document nests at most [MaxDepth] deep, an object has at most
// [MaxKeys] keys. Memory is bounded by the text's length. Errors name the byte.
package strictjson
