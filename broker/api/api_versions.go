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
	if req.Version >= 3 {
		if !softwareName(req.ClientSoftwareName) || !softwareName(req.ClientSoftwareVersion) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp
		}
		c.Conn.SetSoftware(req.ClientSoftwareName, req.ClientSoftwareVersion)
	}
	resp.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, len(a.versions))
	for i, v := range a.versions {
		k := &resp.ApiKeys[i]
		k.Default()
		k.ApiKey, k.MinVersion, k.MaxVersion = v.Key, v.Min, v.Max
	}
	return resp
}

// softwareName is Kafka's pattern for a client's name and version, which end up
// in metrics: [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?
func softwareName(s string) bool {
	for i := range len(s) {
		alnum := s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9'
		inside := i > 0 && i < len(s)-1
		if !alnum && (!inside || s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != ""
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
	out := wire.Encode(resp)
	out.Failed = true
	return out
}
