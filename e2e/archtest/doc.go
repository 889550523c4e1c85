// Package archtest holds the house rules as tests: which package may import
// which, how long a file may be, and what must not be written where. A new
// package or edge is a decision: change the table and say why.
package archtest
