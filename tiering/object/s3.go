package object

import (
	"context"
	"net/url"
)

func openS3(ctx context.Context, u *url.URL, o Options) (Store, error) { return nil, ErrInvalid }
func openMinIO(u *url.URL, o Options) (Store, error)                   { return nil, ErrInvalid }
