package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
)

// errBothNames is about a topic that is named by name and id, or by neither.
var errBothNames = errors.New("a topic is named either by its name or by its id")

// deleteTopics is DeleteTopics (key 20), versions 1–6. v3:
// TOPIC_DELETION_DISABLED. v5: error messages. v6: topic ids.
func (a *API) deleteTopics(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	asked := req.Topics
	for _, name := range req.TopicNames {
		q := kmsg.NewDeleteTopicsRequestTopic()
		q.Topic = kmsg.StringPtr(name)
		asked = append(asked, q)
	}
	named := make(map[string]int)
	for i := range asked {
		named[deleteKey(&asked[i])]++
	}
	deleted := 0
	for i := range asked {
		q := &asked[i]
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = q.Topic, q.TopicID
		err := errDuplicateTopic
		if named[deleteKey(q)] == 1 {
			var n int
			n, err = a.deleteAsked(ctx, c, q, &rt)
			deleted += n
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = adminError(err)
			if req.Version < 3 && errors.Is(err, errDisabled) {
				rt.ErrorCode = kerr.InvalidRequest.Code
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	a.mutated(c, deleted)
	return resp
}

func deleteKey(q *kmsg.DeleteTopicsRequestTopic) string {
	if q.Topic != nil {
		return *q.Topic
	}
	return "\x00" + string(q.TopicID[:]) // no name begins so
}

// deleteAsked deletes one topic and returns how many partitions went. What the
// caller may not see is not told apart from what it may not delete, nor is the
// name behind an id told.
func (a *API) deleteAsked(ctx context.Context, c *call, q *kmsg.DeleteTopicsRequestTopic, rt *kmsg.DeleteTopicsResponseTopic) (int, error) {
	id := metadata.TopicID(q.TopicID)
	if (q.Topic == nil) == id.IsZero() {
		return 0, errBothNames
	}
	img := a.o.Metadata.Image()
	var t *metadata.Topic
	var ok bool
	if q.Topic != nil {
		if a.topicAllowed(ctx, c, auth.Describe, *q.Topic) != 0 && a.topicAllowed(ctx, c, auth.Delete, *q.Topic) != 0 {
			return 0, errDenied
		}
		if t, ok = img.Topic(*q.Topic); !ok {
			return 0, fmt.Errorf("topic %q: %w", *q.Topic, metadata.ErrUnknownTopic)
		}
	} else if t, ok = img.TopicByID(id); !ok {
		return 0, fmt.Errorf("%s: %w", id, errUnknownID)
	}
	if a.topicAllowed(ctx, c, auth.Delete, t.Name) != 0 {
		return 0, errDenied
	}
	rt.Topic, rt.TopicID = &t.Name, t.ID
	return len(t.Partitions), a.deleteTopic(ctx, t)
}

func (a *API) deleteTopic(ctx context.Context, t *metadata.Topic) error {
	s := a.o.Settings()
	// A setting that cannot be read does not keep a topic from being deleted, but for delete.protection, which it is then.
	cfg, _ := s.ResolveStored(a.o.Metadata.Image().TopicConfig(t.Name))
	switch {
	case !s.Broker().DeleteTopics:
		return errDisabled
	case t.Name == group.Topic: // the other names may be of topics made before they were kept
		return errInternalTopic
	case cfg.DeleteProtection:
		return fmt.Errorf("%q: %w", t.Name, errProtected)
	}
	return a.o.Metadata.DeleteTopicByID(ctx, t.ID)
}
