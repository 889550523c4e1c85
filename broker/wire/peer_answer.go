package wire

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// answerSchemas are the responses that brokers read of each other, in the notation of schemas.
var answerSchemas = [...]struct {
	key    int16
	name   string
	fields string
}{
	{1, "Fetch", "i@1 h@7 i@7 [{s@-12 u@13 [{i h l l@4 l@5 [{l l}]?@4 i@11 y? #0:{i l} #1:{i i} #2:{l i}}]}] #0:[{i s i s?}]"},
	{2, "ListOffsets", "i@2 [{s [{i h [l]@-0 l@1 l@1 i@4}]}]"},
}

// answerBudget is what the decoded form of an answer may take beside its bytes.
const answerBudget = 32 << 20

var answerPrograms = sync.OnceValue(func() map[int16][]*program {
	all := make(map[int16][]*program, len(answerSchemas))
	for _, s := range answerSchemas {
		p := schemaParser{name: s.name, rest: s.fields}
		body := node{kind: '{', fields: p.fields(0)}
		response := kmsg.ResponseForKey(s.key)
		t := reflect.TypeOf(response).Elem()
		for v := int16(0); v <= response.MaxVersion(); v++ {
			c := compiler{name: s.name, version: v, flexible: flexible(s.key, v)}
			all[s.key] = append(all[s.key], c.structure(body.fields, t))
		}
	}
	return all
})

// checkAnswer bounds what decoding an answer allocates, as Guard does for requests: what a broken peer, or none of ours,
// sends must not be believed either.
func checkAnswer(key, version int16, body []byte) error {
	versions := answerPrograms()[key]
	if int(version) >= len(versions) {
		return nil // a response without arrays of structures, or none that brokers ask for
	}
	w := walker{rest: body, budget: answerBudget, elements: maxElements, tags: maxTags}
	switch w.walk(versions[version]) {
	case walkMalformed:
		return fmt.Errorf("%w: at byte %d of %d", errBadAnswer, len(body)-len(w.rest), len(body))
	case walkBudget:
		return fmt.Errorf("%w: decoding it takes more than %d bytes", errBadAnswer, answerBudget)
	}
	return nil
}
