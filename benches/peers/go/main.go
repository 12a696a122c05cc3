// DIR's own client for Go, measured as the Rust ways are: it reads the JSON of the distinct records
// from its standard input, one a line, makes all input, warms up, and prints what a run has cost.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "github.com/agntcy/dir/api/core/v1"
	"github.com/agntcy/dir/client"
	"github.com/agntcy/dir/client/streaming"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 5 {
		return fmt.Errorf("usage: go-client OPERATION URL COUNT WARM-UP")
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	warmUp, err := strconv.Atoi(os.Args[4])
	if err != nil {
		return err
	}
	records, refs, err := input()
	if err != nil {
		return err
	}
	// Far longer than it takes: one that hangs ends with an error.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	config := &client.Config{ServerAddress: strings.TrimPrefix(os.Args[2], "http://"), AuthMode: "insecure"}
	c, err := client.New(ctx, client.WithConfig(config))
	if err != nil {
		return err
	}
	defer c.Close()
	once := func(count int) error {
		switch os.Args[1] {
		case "push":
			return stream(ctx, records, count, c.PushStream)
		case "pull":
			return stream(ctx, refs, count, c.PullStream)
		case "lookup":
			return stream(ctx, refs, count, c.LookupStream)
		}
		return fmt.Errorf("there is no operation %s", os.Args[1])
	}
	if err := once(warmUp); err != nil {
		return err
	}
	cpu, start := processCPU(), time.Now()
	if err := once(count); err != nil {
		return err
	}
	wall := time.Since(start)
	fmt.Println("cost", count, wall.Nanoseconds(), (processCPU() - cpu).Nanoseconds())
	return nil
}

func input() (records []*corev1.Record, refs []*corev1.RecordRef, err error) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		record, err := corev1.UnmarshalRecord(lines.Bytes())
		if err != nil {
			return nil, nil, err
		}
		records = append(records, record)
		refs = append(refs, &corev1.RecordRef{Cid: record.GetCid()})
	}
	return records, refs, lines.Err()
}

// stream sends so many, going round the items, and counts the answers. The items are used again, and
// not made anew for each round, which is to this client's advantage.
func stream[Q, A any](
	ctx context.Context, items []*Q, count int,
	open func(context.Context, <-chan *Q) (streaming.StreamResult[A], error),
) error {
	requests := make(chan *Q)
	go func() {
		defer close(requests)
		for i := range count {
			requests <- items[i%len(items)]
		}
	}()
	result, err := open(ctx, requests)
	if err != nil {
		return err
	}
	answers := 0
	for {
		select {
		case err := <-result.ErrCh():
			return err
		case <-result.ResCh():
			answers++
		case <-result.DoneCh():
			if answers != count {
				return fmt.Errorf("%d answers to %d requests", answers, count)
			}
			return nil
		}
	}
}

func processCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
