// DIR's own client for Go, and its generated stubs, against the server at the address given.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "github.com/agntcy/dir/api/core/v1"
	storev1 "github.com/agntcy/dir/api/store/v1"
	"github.com/agntcy/dir/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: go URL VECTORS TEXTS")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	address := strings.TrimPrefix(os.Args[1], "http://")
	for what, check := range map[string]func(context.Context, string) error{
		"CIDs":                   func(context.Context, string) error { return vectors(os.Args[2]) },
		"JSON texts":             func(context.Context, string) error { return texts(os.Args[3]) },
		"client":                 operations,
		"100,000 small requests": unread,
	} {
		if err := check(ctx, address); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
			os.Exit(1)
		}
	}
	fmt.Println("the DIR clients for Go and this crate agree")
}

func record(number int, fill int) *corev1.Record {
	data, err := structpb.NewStruct(map[string]any{
		"name": "agent", "schema_version": "1.0.0", "n": number, "fill": strings.Repeat("x", fill),
	})
	if err != nil {
		panic(err)
	}
	return &corev1.Record{Data: data}
}

// vectors: the CIDs that our tests hold our own to are those that Go computes.
func vectors(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	agreed := 0
	for lines.Scan() {
		var vector struct{ Note, Wire, CID string }
		if err := json.Unmarshal(lines.Bytes(), &vector); err != nil {
			return err
		}
		if vector.CID == "" {
			continue
		}
		wire, err := base64.StdEncoding.DecodeString(vector.Wire)
		if err != nil {
			return err
		}
		var record corev1.Record
		if err := proto.Unmarshal(wire, &record); err != nil {
			return fmt.Errorf("%s: %w", vector.Note, err)
		}
		if cid := record.GetCid(); cid != vector.CID {
			return fmt.Errorf("%s: %s, not %s", vector.Note, cid, vector.CID)
		}
		agreed++
	}
	if agreed < 390 {
		return fmt.Errorf("only %d vectors", agreed)
	}
	return lines.Err()
}

// texts: JSON is read as Go reads it, and where it is refused, Go refuses it.
func texts(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	agreed := 0
	for lines.Scan() {
		var text struct{ Note, Text, CID string }
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			return err
		}
		// As DIR's `UnmarshalRecord` does it.
		var data *structpb.Struct
		cid := ""
		if err := json.Unmarshal([]byte(text.Text), &data); err == nil {
			cid = (&corev1.Record{Data: data}).GetCid()
		}
		if cid != text.CID {
			return fmt.Errorf("%s: %q, not %q", text.Note, cid, text.CID)
		}
		agreed++
	}
	if agreed < 40 {
		return fmt.Errorf("only %d texts", agreed)
	}
	return lines.Err()
}

func want(err error, code codes.Code, words string) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if s, ok := status.FromError(inner); ok && s.Code() == code && strings.Contains(s.Message(), words) {
			return nil
		}
	}
	return fmt.Errorf("wanted %v with %q, got: %v", code, words, err)
}

func operations(ctx context.Context, address string) error {
	c, err := client.New(ctx, client.WithConfig(&client.Config{ServerAddress: address, AuthMode: "insecure"}))
	if err != nil {
		return err
	}
	defer c.Close()
	records := make([]*corev1.Record, 1000)
	for i := range records {
		records[i] = record(i, 10)
	}
	refs, err := c.PushBatch(ctx, records)
	if err != nil {
		return err
	}
	if len(refs) != len(records) {
		return fmt.Errorf("%d refs", len(refs))
	}
	for i, ref := range refs {
		if ref.GetCid() != records[i].GetCid() {
			return fmt.Errorf("record %d: %s, not %s", i, ref.GetCid(), records[i].GetCid())
		}
	}
	metas, err := c.LookupBatch(ctx, refs)
	if err != nil {
		return err
	}
	if len(metas) != len(refs) || metas[0].GetSchemaVersion() != "1.0.0" {
		return fmt.Errorf("%d found, %v", len(metas), metas[0])
	}
	pulled, err := c.PullBatch(ctx, refs)
	if err != nil {
		return err
	}
	for i := range pulled {
		if !proto.Equal(pulled[i], records[i]) {
			return fmt.Errorf("record %d came back changed", i)
		}
	}

	// Each error.
	_, err = c.Push(ctx, &corev1.Record{})
	if err := want(err, codes.InvalidArgument, "record is nil"); err != nil {
		return err
	}
	_, err = c.Push(ctx, records[0])
	if err := want(err, codes.Internal, "already exists"); err != nil {
		return err
	}
	missing := &corev1.RecordRef{Cid: record(5000, 0).GetCid()}
	_, err = c.Pull(ctx, missing)
	if err := want(err, codes.NotFound, ""); err != nil {
		return err
	}
	_, err = c.Lookup(ctx, missing)
	if err := want(err, codes.NotFound, ""); err != nil {
		return err
	}
	_, err = c.Pull(ctx, &corev1.RecordRef{})
	if err := want(err, codes.InvalidArgument, "record cid is required"); err != nil {
		return err
	}

	// As large as can be, and a byte more.
	const limit = 4 << 20
	around := proto.Size(record(0, limit)) - limit
	large, err := c.Push(ctx, record(0, limit-around))
	if err != nil {
		return err
	}
	if _, err := c.Pull(ctx, large); err != nil {
		return err
	}
	_, err = c.Push(ctx, record(0, limit-around+1))
	if err := want(err, codes.ResourceExhausted, "received message larger than max"); err != nil {
		return err
	}

	if err := c.DeleteBatch(ctx, append(refs, large)); err != nil {
		return err
	}
	_, err = c.Lookup(ctx, refs[0])
	return want(err, codes.NotFound, "")
}

// unread: an eager client that sends all before it reads is not cut off.
func unread(ctx context.Context, address string) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	stub := storev1.NewStoreServiceClient(connection)
	push, err := stub.Push(ctx)
	if err != nil {
		return err
	}
	if err := push.Send(record(1, 0)); err != nil {
		return err
	}
	ref, err := push.Recv()
	if err != nil {
		return err
	}
	lookup, err := stub.Lookup(ctx)
	if err != nil {
		return err
	}
	const requests = 100_000
	sent := make(chan int, requests)
	failed := make(chan error, 1)
	go func() {
		for i := range requests {
			if err := lookup.Send(ref); err != nil {
				failed <- fmt.Errorf("request %d: %w", i, err)
				return
			}
			sent <- i
		}
		failed <- lookup.CloseSend()
	}()
	// Nothing is read until the flow control of HTTP/2 has stopped the sender: its window of 256
	// KiB is full of requests of 68 bytes then.
	for i := range 3_000 {
		select {
		case <-sent:
		case err := <-failed:
			return fmt.Errorf("after %d: %w", i, err)
		}
	}
	for i := range requests {
		if _, err := lookup.Recv(); err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
	}
	if _, err := lookup.Recv(); err != io.EOF {
		return fmt.Errorf("after all: %w", err)
	}
	return <-failed
}
