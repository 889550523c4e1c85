package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// apiVersions is ApiVersions (key 18), versions 0–4. v3: client software
// (KIP-511).
func (a *API) apiVersions(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ApiVersionsRequest)
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	for _, v := range Versions() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = v.Key, v.Min, v.Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	return resp
}

// unsupportedApiVersions tells a client that is newer than us, in version 0,
// which versions of ApiVersions it may use (KIP-511).
func (a *API) unsupportedApiVersions() wire.Response {
	e := a.table[int16(kmsg.ApiVersions)]
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version, resp.ErrorCode = 0, kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = e.key.Int16(), e.min, e.max
	resp.ApiKeys = append(resp.ApiKeys, k)
	return respond(resp)
}
