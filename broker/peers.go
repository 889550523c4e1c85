package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

const (
	// peerTimeout bounds one question to another broker's HTTP.
	peerTimeout = 5 * time.Second
	// peerAnswer bounds its answer.
	peerAnswer = 64 << 20
)

// tellHTTP is what other brokers are told of this one's HTTP: as bound, or on every interface the host that Kafka
// clients are told. An address of the loopback is told too: brokers on one machine find each other there, and
// those on others find out that somebody else answers.
func tellHTTP(bound string, listeners []metadata.Listener) string {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() && len(listeners) > 0 {
		host = listeners[0].Host
	}
	return net.JoinHostPort(host, port)
}

// answeredBy is what every answer to a question among brokers says of who gave it.
type answeredBy struct {
	ClusterID string `json:"cluster_id"`
	Broker    *int32 `json:"broker"`
}

// askPeer gets JSON from another broker's HTTP, which must say that it is that broker.
func (b *Broker) askPeer(ctx context.Context, peer metadata.Broker, path string, query url.Values, into any) error {
	if peer.HTTP == "" {
		return errors.New("it has no HTTP")
	}
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: peer.HTTP, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DialContext: b.o.Dial, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, which is long
		}
		return fmt.Errorf("HTTP of %s: %w", peer.HTTP, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, peerAnswer))
	if err != nil {
		return fmt.Errorf("HTTP of %s: %w", peer.HTTP, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP of %s: %s", peer.HTTP, resp.Status)
	}
	var by answeredBy
	if err := json.Unmarshal(body, &by); err != nil {
		return fmt.Errorf("HTTP of %s: %w", peer.HTTP, err)
	}
	if by.Broker == nil || *by.Broker != int32(peer.ID) || by.ClusterID != b.addresses.ClusterID {
		return fmt.Errorf("HTTP of %s is not that broker's: give http.listen an address that the other brokers reach", peer.HTTP)
	}
	return json.Unmarshal(body, into)
}

// self is this broker's number.
func (b *Broker) self() metadata.BrokerID {
	return metadata.BrokerID(b.settings.Load().Broker().NodeID)
}

// peerName names a broker in a message.
func peerName(id metadata.BrokerID) string { return "broker " + strconv.Itoa(int(id)) }
