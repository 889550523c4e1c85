package cache

// shares are what holders have of the memory, in bytes: their pieces, and those they wait for.
type shares struct {
	memory int64
	total  int64
	of     map[string]int64
}

// shareOthers is how many holders there is room for beside those there are: one that is alone may hold a quarter of
// the memory, and more of them each hold less.
const shareOthers = 3

// charge charges a holder with n more bytes, unless it has its share, or all holders together have half of the
// memory: answers that nobody takes must leave room for others. Its first piece is always its due, as there is no
// answer without it.
func (s *shares) charge(holder string, n int64) bool {
	if holder == "" {
		return true
	}
	if held, has := s.of[holder]; has && (held+n > s.memory/int64(len(s.of)+shareOthers) || s.total+n > s.memory/2) {
		return false
	}
	s.of[holder] += n
	s.total += n
	return true
}

// payBack ends a charge.
func (s *shares) payBack(holder string, n int64) {
	if holder == "" {
		return
	}
	s.total -= n
	if s.of[holder] -= n; s.of[holder] <= 0 {
		delete(s.of, holder)
	}
}
