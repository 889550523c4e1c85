// Package object hides where tiered data lives: a directory, memory, or an S3-compatible store
// behind one of two client libraries. It is one of the four seams to the outside; every
// implementation passes the contract test in contract_test.go.
//
// What all implementations promise beyond the methods of Store:
//
//   - A key is one to 1,024 bytes in components of at most 255 bytes (ValidKey): the strictest of
//     what S3, MinIO and file systems allow. A prefix of the URL counts towards the 1,024. A key
//     must not also be a folder of another key (a and a/b), because directories and MinIO refuse it.
//   - A Put that failed may still have stored the object: an answer can get lost. Callers use a
//     fresh name for each attempt, or IfAbsent and then look.
//   - Errors that a later attempt may cure match ErrUnavailable, see Retriable. Drivers retry a
//     few times themselves; the caller owns the patience beyond.
package object
