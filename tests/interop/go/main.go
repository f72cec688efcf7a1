// franz-go against a broker: go run . BOOTSTRAP. Reads scenarios from standard input, one a line, and answers each with
// "ok NAME", or with what was wrong and "failed NAME".
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const deadline = 50 * time.Second

var (
	bootstrap string
	number    int
)

func main() {
	bootstrap = os.Args[1]
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		err := run(words)
		if err != nil {
			fmt.Println(err)
			fmt.Println("failed", words[0])
		} else {
			fmt.Println("ok", words[0])
		}
	}
}

func run(words []string) (err error) {
	defer func() {
		if wrong := recover(); wrong != nil {
			err = fmt.Errorf("%v", wrong)
		}
	}()
	switch words[0] {
	case "values":
		values(words[1])
	case "group":
		group()
	case "statics":
		statics()
	case "administration":
		administration()
	case "times":
		times()
	case "recreated":
		recreated()
	case "transactions":
		transactions()
	default:
		panic(words[0])
	}
	return nil
}

// -- small things ----------------------------------------------------------------------------------------------------

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(good bool, what ...any) {
	if !good {
		panic(fmt.Sprint(what...))
	}
}

func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	time.AfterFunc(deadline, cancel)
	return ctx
}

func until(condition func() bool, what string) {
	for end := time.Now().Add(deadline); !condition(); time.Sleep(20 * time.Millisecond) {
		check(time.Now().Before(end), "waited for: ", what)
	}
}

func unique(label string) string {
	number++
	return fmt.Sprintf("go.%s.%d.%d", label, os.Getpid(), number)
}

func client(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(time.Second),
	}, options...)...))
}

func topic(partitions int32, configs map[string]*string) string {
	name, one := unique("topic"), client()
	defer one.Close()
	must(kadm.NewClient(one).CreateTopic(within(), partitions, 1, configs, name))
	return name
}

func produce(topic, label string, count int) {
	one := client()
	defer one.Close()
	var records []*kgo.Record
	for n := range count {
		records = append(records, &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint(n)), Value: fmt.Appendf(nil, "%s-%d", label, n)})
	}
	must(0, one.ProduceSync(within(), records...).FirstErr())
}

func read(one *kgo.Client, count int) (found []*kgo.Record) {
	for ctx := within(); len(found) < count; {
		fetches := one.PollFetches(ctx)
		check(ctx.Err() == nil, len(found), " of ", count, " records came")
		fetches.EachRecord(func(record *kgo.Record) { found = append(found, record) })
	}
	return found
}

// One consumer of a group; commits what it has read.
type member struct {
	client     *kgo.Client
	cancel     context.CancelFunc
	mutex      sync.Mutex
	partitions map[int32]bool
	found      *sync.Map
	done       chan struct{}
}

func join(topic, group string, found *sync.Map, options ...kgo.Opt) *member {
	ctx, cancel := context.WithCancel(context.Background())
	one := &member{cancel: cancel, partitions: map[int32]bool{}, found: found, done: make(chan struct{})}
	mark := func(have bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			one.mutex.Lock()
			defer one.mutex.Unlock()
			for _, partition := range topics[topic] {
				if have {
					one.partitions[partition] = true
				} else {
					delete(one.partitions, partition)
				}
			}
		}
	}
	one.client = client(append([]kgo.Opt{
		kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(), kgo.OnPartitionsAssigned(mark(true)),
		kgo.OnPartitionsRevoked(mark(false)), kgo.OnPartitionsLost(mark(false)),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, options...)...)
	go func() {
		defer close(one.done)
		for ctx.Err() == nil {
			fetches := one.client.PollFetches(ctx)
			fetches.EachRecord(func(record *kgo.Record) { found.Store(string(record.Value), true) })
			fetches.EachError(func(_ string, _ int32, err error) {
				if errors.Is(err, kerr.UnknownTopicID) { // made again: this client wants to be told that it is another one
					one.client.PurgeTopicsFromConsuming(topic)
					one.client.AddConsumeTopics(topic)
				}
			})
			_ = one.client.CommitUncommittedOffsets(ctx) // who has lost a partition meanwhile may not: the other reads it again
		}
	}()
	return one
}

func (one *member) parts() int {
	one.mutex.Lock()
	defer one.mutex.Unlock()
	return len(one.partitions)
}

func (one *member) leave() {
	one.cancel()
	<-one.done
	one.client.Close()
}

func size(found *sync.Map) (count int) {
	found.Range(func(any, any) bool { count++; return true })
	return count
}

func equalParts(members []*member, parts int) bool {
	for _, one := range members {
		if one.parts() != parts {
			return false
		}
	}
	return true
}

// -- scenarios -------------------------------------------------------------------------------------------------------

func values(name string) {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[name]
	topic := topic(1, nil)
	header := []kgo.RecordHeader{{Key: "h", Value: []byte{255}}, {Key: "null"}, {Key: "", Value: []byte{}}}
	sent := []*kgo.Record{
		{Topic: topic, Value: []byte("no key")}, {Topic: topic, Key: []byte("k")},
		{Topic: topic, Key: []byte{}, Value: []byte{}, Headers: header}}
	for n := range 300 {
		sent = append(sent, &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint(n)), Value: bytes.Repeat(fmt.Appendf(nil, "value %d ", n), 20)})
	}
	producer := client(kgo.ProducerBatchCompression(codec))
	defer producer.Close()
	must(0, producer.ProduceSync(within(), sent...).FirstErr())
	consumer := client(kgo.ConsumeTopics(topic))
	defer consumer.Close()
	for n, record := range read(consumer, len(sent)) {
		one := sent[n]
		check(record.Offset == int64(n) && bytes.Equal(record.Key, one.Key) && bytes.Equal(record.Value, one.Value), "record ", n)
		check((record.Key == nil) == (one.Key == nil) && (record.Value == nil) == (one.Value == nil), "a null of record ", n)
		check(len(record.Headers) == len(one.Headers), "headers of record ", n)
		for at, found := range record.Headers {
			check(found.Key == header[at].Key && bytes.Equal(found.Value, header[at].Value) &&
				(found.Value == nil) == (header[at].Value == nil), "header ", at)
		}
	}
}

func group() {
	topic, group, found, expected := topic(6, nil), unique("group"), &sync.Map{}, 0
	var members []*member
	for count := 1; count <= 3; count++ {
		members = append(members, join(topic, group, found))
		until(func() bool { return equalParts(members, 6/count) }, "equal parts")
		produce(topic, fmt.Sprint("joined", count), 60)
		expected += 60
	}
	for len(members) > 1 {
		members[0].leave()
		members = members[1:]
		until(func() bool { return equalParts(members, 6/len(members)) }, "the parts of who has left")
		produce(topic, fmt.Sprint("left", len(members)), 60)
		expected += 60
	}
	until(func() bool { return size(found) == expected }, "all is read")
	members[0].leave()
}

func statics() {
	topic, group, found := topic(2, nil), unique("group"), &sync.Map{}
	first, second := join(topic, group, found, kgo.InstanceID("a")), join(topic, group, found, kgo.InstanceID("b"))
	until(func() bool { return first.parts() == 1 && second.parts() == 1 }, "both have a part")
	second.leave()
	second = join(topic, group, found, kgo.InstanceID("b"))
	until(func() bool { return second.parts() == 1 }, "it has what it had")
	produce(topic, "late", 20)
	until(func() bool { return size(found) == 20 }, "all is read")
	first.leave()
	second.leave()
}

func administration() {
	policy := "compact"
	topic, group := topic(2, map[string]*string{"cleanup.policy": &policy}), unique("group")
	produce(topic, "a", 20)
	consumer := client(kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	read(consumer, 20)
	must(0, consumer.CommitUncommittedOffsets(within()))
	consumer.Close()
	one := client()
	defer one.Close()
	admin := kadm.NewClient(one)
	check(len(must(admin.ListBrokers(within()))) == 1, "brokers")
	must(admin.AlterTopicConfigs(within(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: kadm.StringPtr("5000")}}, topic))
	found := map[string]string{}
	for _, config := range must(must(admin.DescribeTopicConfigs(within(), topic)).On(topic, nil)).Configs {
		found[config.Key] = config.MaybeValue()
	}
	check(found["cleanup.policy"] == "compact" && found["max.message.bytes"] == "5000", found)
	must(admin.UpdatePartitions(within(), 4, topic))
	// The client answers from what it knows of topics while that is younger than MetadataMinAge.
	until(func() bool { return len(must(admin.ListTopics(within(), topic))[topic].Partitions) == 4 }, "partitions")
	lag := must(admin.Lag(within(), group))[group]
	check(lag.Lag.Total() == 0 && lag.State == "Empty", lag)
	var sum int64
	must(admin.FetchOffsets(within(), group)).Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	check(sum == 20, "offsets: ", sum)
	ends := must(admin.ListEndOffsets(within(), topic))
	must(admin.DeleteRecords(within(), ends.Offsets()))
	check(must(admin.ListStartOffsets(within(), topic))[topic][0].Offset == ends[topic][0].Offset, "the start")
	must(admin.DeleteGroup(within(), group))
	_, there := must(admin.ListGroups(within()))[group]
	check(!there, "the group is there")
	must(admin.DeleteTopic(within(), topic))
	until(func() bool { return !must(admin.ListTopics(within())).Has(topic) }, "the topic is gone")
}

func times() {
	topic, one := topic(1, nil), client()
	defer one.Close()
	for n := range int64(10) {
		must(0, one.ProduceSync(within(), &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(n)), Timestamp: time.UnixMilli(1_000_000 + n*1_000)}).FirstErr())
	}
	found := must(kadm.NewClient(one).ListOffsetsAfterMilli(within(), 1_003_500, topic))[topic][0]
	check(found.Offset == 4 && found.Timestamp == 1_004_000, found)
	reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(7)}}))
	defer reader.Close()
	check(string(read(reader, 1)[0].Value) == "7", "offset 7")
	after := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AfterMilli(1_008_500)}}))
	defer after.Close()
	check(string(read(after, 1)[0].Value) == "9", "after a time")
}

// A topic is deleted and made again under a running consumer, which goes on with the new one.
func recreated() {
	topic, found := topic(2, nil), &sync.Map{}
	one := join(topic, unique("group"), found)
	produce(topic, "old", 40)
	until(func() bool { return size(found) == 40 }, "the old one is read")
	plain := client()
	defer plain.Close()
	admin := kadm.NewClient(plain)
	before := must(admin.ListTopics(within(), topic))[topic].ID
	must(admin.DeleteTopic(within(), topic))
	time.Sleep(300 * time.Millisecond)
	must(admin.CreateTopic(within(), 2, 1, nil, topic))
	check(must(admin.ListTopics(within(), topic))[topic].ID != before, "the id of a topic comes again")
	until(func() bool {
		produce(topic, "new", 20)
		return size(found) >= 60
	}, "the new one is read")
	one.leave()
}

func transactions() {
	source, target, group, id := topic(1, nil), topic(2, nil), unique("group"), unique("id")
	produce(source, "input", 1)
	session := must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.TransactionalID(id), kgo.ConsumeTopics(source), kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets(), kgo.DefaultProduceTopic(target)))
	for len(session.PollFetches(within()).Records()) == 0 {
	}
	must(0, session.Begin())
	must(0, session.ProduceSync(within(), kgo.StringRecord("1"), kgo.StringRecord("1")).FirstErr())
	check(must(session.End(within(), kgo.TryCommit)), "committed")
	plain := client(kgo.TransactionalID(unique("id")), kgo.DefaultProduceTopic(target))
	must(0, plain.BeginTransaction())
	must(0, plain.ProduceSync(within(), kgo.StringRecord("2")).FirstErr())
	must(0, plain.EndTransaction(within(), kgo.TryAbort))
	must(0, plain.BeginTransaction())
	must(0, plain.ProduceSync(within(), kgo.StringRecord("3")).FirstErr())
	must(0, plain.EndTransaction(within(), kgo.TryCommit))
	plain.Close()
	committed := client(kgo.ConsumeTopics(target), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	var seen []string
	for _, record := range read(committed, 3) {
		seen = append(seen, string(record.Value))
	}
	committed.Close()
	sort.Strings(seen)
	check(strings.Join(seen, " ") == "1 1 3", seen)
	admin := kadm.NewClient(session.Client())
	check(must(admin.FetchOffsets(within(), group))[source][0].At == 1, "the offset of the transaction")
	must(0, session.Begin())
	must(0, session.ProduceSync(within(), kgo.StringRecord("lost")).FirstErr())
	states := must(admin.DescribeTransactions(within(), id))
	check(states[id].State == "Ongoing", states)
	other := client(kgo.TransactionalID(id), kgo.DefaultProduceTopic(target))
	defer other.Close()
	must(0, other.BeginTransaction())
	must(0, other.ProduceSync(within(), kgo.StringRecord("4")).FirstErr())
	must(0, other.EndTransaction(within(), kgo.TryCommit))
	_, err := session.End(within(), kgo.TryCommit)
	check(errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced), "the first one is not fenced: ", err)
	session.Close()
}
