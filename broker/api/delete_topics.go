package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// deleteTopics is DeleteTopics (key 20), versions 1–6. v6: topic ids.
func (a *API) deleteTopics(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	asked := req.Topics
	for _, name := range req.TopicNames {
		q := kmsg.NewDeleteTopicsRequestTopic()
		q.Topic = kmsg.StringPtr(name)
		asked = append(asked, q)
	}
	for i := range asked {
		q := &asked[i]
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = q.Topic, q.TopicID
		t, err := a.findTopic(q.Topic, q.TopicID)
		if err == nil {
			rt.Topic, rt.TopicID = &t.Name, t.ID
			err = a.deleteTopic(ctx, c, t)
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = adminError(err)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (a *API) findTopic(name *string, id metadata.TopicID) (*metadata.Topic, error) {
	img := a.o.Metadata.Image()
	if name != nil {
		if t, ok := img.Topic(*name); ok {
			return t, nil
		}
		return nil, fmt.Errorf("topic %q: %w", *name, metadata.ErrUnknownTopic)
	}
	if t, ok := img.TopicByID(id); ok {
		return t, nil
	}
	return nil, fmt.Errorf("%s: %w", id, errUnknownID)
}

func (a *API) deleteTopic(ctx context.Context, c *call, t *metadata.Topic) error {
	s := a.o.Settings()
	cfg, err := s.ResolveTopic(a.o.Metadata.Image().TopicConfig(t.Name))
	if err != nil {
		return err
	}
	switch {
	case a.topicAllowed(ctx, c, auth.Delete, t.Name) != 0:
		return errDenied
	case !s.Broker().DeleteTopics:
		return errDisabled
	case internalTopic(t.Name):
		return errInternalTopic
	case cfg.DeleteProtection:
		return fmt.Errorf("%q: %w", t.Name, errProtected)
	}
	return a.o.Metadata.DeleteTopic(ctx, t.Name)
}
