// Package index is the .idx object that lies beside each segment's .log in the object store: all indexes of it in one
// object, made of one scan of the segment, so that a cold read needs one small GET before the first of the data. It is
// pure: no I/O, no clock.
//
// Where an offset lies is told by cuts: batch borders at most 256 KiB apart (or one larger batch). A reader joins the
// pieces between them to chunks of the size that suits it (Chunks); the same limit always gives the same chunks, each
// of whole batches, which CheckBatches checks when they come in.
//
// # Invariants
//
//   - What is decoded is valid: cuts rise in offset and position, epochs rise, sections have the length of whole
//     entries and the checksum that the table says.
//   - The entry of the manifest and the index of a segment come from the same scan (Scan.Build); IsOf refuses the index
//     of another.
//   - Every length is bounded before anything is allocated for it.
//
// # Format
//
// The .idx object, big-endian:
//
//	 0  8  magic "CBRKIDX\n"
//	 8  2  version, 1
//	10  2  number of sections
//	12  4  head: bytes from the start that a cold read needs (this, the table, chunks and epochs)
//	16  8  base offset            24  8  last offset, inclusive
//	32  8  bytes of the .log      40  8  highest timestamp
//	48  4  CRC32C of the .log     52  4  zero
//	56  24 per section: type 2, zero 2, CRC32C 4, position 8, length 8
//	 …  4  CRC32C of all bytes before it
//	 …     the sections, in the order of the table, without gaps
//
// Sections: 1 chunks (16 bytes: relative offset 4, position 4, highest timestamp of all batches before the next
// cut 8) · 2 leader epochs (12 bytes: epoch 4, start offset 8; the whole lineage up to the segment's end) · 3
// Kafka's .txnindex · 4 Kafka's .snapshot at the segment's end · 5 Kafka's .index · 6 Kafka's .timeindex. A reader
// skips types it does not know: what may be ignored is added as one. Anything else takes a new version, which an older
// release refuses by name (manifest.VersionError). All releases so far write and read version 1.
package index
