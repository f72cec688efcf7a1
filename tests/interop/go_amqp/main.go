// amqp091-go against a node: go run . PORT. Reads scenarios from standard input, one a line, and answers each with
// "ok NAME", or with what was wrong and "failed NAME". Started by tests/interop/test_amqp091_go.py.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const deadline = 30 * time.Second

var url string

func main() {
	url = "amqp://guest:guest@127.0.0.1:" + os.Args[1] + "/"
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		if err := run(words); err != nil {
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
		values()
	case "confirms":
		confirms()
	case "errors":
		refusals()
	case "consumers":
		consumers()
	case "recovery":
		kills, _ := strconv.Atoi(words[1])
		recovery(kills)
	default:
		return errors.New("unknown scenario")
	}
	return nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

func open() (*amqp.Connection, *amqp.Channel) {
	connection, err := amqp.Dial(url)
	must(err)
	channel, err := connection.Channel()
	must(err)
	return connection, channel
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	must(channel.PublishWithContext(ctx, exchange, key, false, false, message))
}

func get(channel *amqp.Channel, queue string) amqp.Delivery {
	for until := time.Now().Add(deadline); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		delivery, found, err := channel.Get(queue, true)
		must(err)
		if found {
			return delivery
		}
	}
	panic("nothing in " + queue)
}

// Every width of integer that this client writes by its own letter comes back as it was.
func values() {
	connection, channel := open()
	defer connection.Close()
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	must(err)
	table := amqp.Table{
		"bool": true, "byte": byte(200), "int8": int8(-3), "int16": int16(-300), "int32": int32(-70000), "int64": int64(1) << 40,
		"float32": float32(1.5), "float64": 2.25, "text": "ü", "bytes": []byte{0, 255}, "void": nil,
		"time": time.Unix(1_700_000_000, 0), "decimal": amqp.Decimal{Scale: 2, Value: 1234},
		"list": []any{int32(1), "two"}, "table": amqp.Table{"inner": amqp.Table{"x": int32(1)}},
	}
	sent := amqp.Publishing{Headers: table, ContentType: "a/b", ContentEncoding: "c", DeliveryMode: 2, Priority: 3, CorrelationId: "c",
		ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1_700_000_000, 0), Type: "t", UserId: "guest", AppId: "a",
		Body: make([]byte, 400_000)}
	sent.Body[399_999] = 7
	publish(channel, "", queue.Name, sent)
	found := get(channel, queue.Name)
	for name, value := range table {
		other := found.Headers[name]
		if moment, ok := value.(time.Time); ok {
			check(moment.Equal(other.(time.Time)), name, other)
		} else {
			check(reflect.DeepEqual(value, other), name, " ", value, " ", other)
		}
	}
	check(len(found.Body) == 400_000 && found.Body[399_999] == 7, "body")
	check(found.ContentType+found.ContentEncoding+found.CorrelationId+found.ReplyTo+found.Expiration+found.MessageId+found.Type+
		found.UserId+found.AppId == "a/bccr60000mtguesta", "properties")
}

func confirms() {
	connection, channel := open()
	defer connection.Close()
	_, err := channel.QueueDeclare("go-confirms", true, false, false, false, nil)
	must(err)
	must(channel.Confirm(false))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	answers := channel.NotifyPublish(make(chan amqp.Confirmation, 3001))
	must(channel.Publish("", "go-nowhere", true, false, amqp.Publishing{}))
	check((<-returns).ReplyCode == 312 && (<-answers).Ack, "returned, then acked")
	for number := 0; number < 3000; number++ {
		publish(channel, "", "go-confirms", amqp.Publishing{DeliveryMode: 2, Body: []byte(strconv.Itoa(number))})
	}
	for number := 0; number < 3000; number++ {
		select {
		case answer := <-answers:
			check(answer.Ack && answer.DeliveryTag == uint64(number+2), answer)
		case <-time.After(deadline):
			panic("no confirm")
		}
	}
	count, err := channel.QueuePurge("go-confirms", false)
	must(err)
	check(count == 3000, count)
}

func refusals() {
	connection, channel := open()
	defer connection.Close()
	_, err := channel.QueueDeclarePassive("go-none", true, false, false, false, nil)
	var refused *amqp.Error
	check(errors.As(err, &refused) && refused.Code == 404 && strings.Contains(refused.Reason, "no queue 'go-none' in vhost '/'"), err)
	channel, err = connection.Channel()
	must(err)
	_, err = channel.QueueDeclare("go-same", true, false, false, false, nil)
	must(err)
	_, err = channel.QueueDeclare("go-same", true, false, false, false, amqp.Table{"x-max-length": int32(3)})
	check(errors.As(err, &refused) && refused.Code == 406, err)
	_, err = amqp.Dial(strings.Replace(url, "/", "/", 1) + "nothing")
	check(err != nil, "no such virtual host")
}

func consumers() {
	connection, channel := open()
	defer connection.Close()
	queue, err := channel.QueueDeclare("go-work", true, false, false, false, nil)
	must(err)
	must(channel.Qos(2, 0, false))
	deliveries, err := channel.Consume(queue.Name, "reader", false, false, false, false, nil)
	must(err)
	cancels := channel.NotifyCancel(make(chan string, 1))
	for number := 0; number < 5; number++ {
		publish(channel, "", queue.Name, amqp.Publishing{Body: []byte{byte(number)}})
	}
	first, second := <-deliveries, <-deliveries
	select {
	case <-deliveries:
		panic("the prefetch is 2")
	case <-time.After(200 * time.Millisecond):
	}
	must(first.Nack(false, true))
	again := <-deliveries
	check(again.Redelivered && again.Body[0] == first.Body[0], "at its old place, marked")
	must(second.Ack(false))
	must(again.Reject(false))
	third := <-deliveries
	fourth := <-deliveries
	must(fourth.Ack(true))
	_ = third
	fifth := <-deliveries
	must(fifth.Ack(false))
	other, err := connection.Channel()
	must(err)
	_, err = other.QueueDelete(queue.Name, false, false, false)
	must(err)
	select {
	case tag := <-cancels:
		check(tag == "reader", tag)
	case <-time.After(deadline):
		panic("nobody has told of the deletion")
	}
}

// What this client's users write around it: connect again, declare again; what was confirmed is there.
func recovery(kills int) {
	var lock sync.Mutex
	confirmed := map[string]bool{}
	next := 0
	for round := 0; round <= kills; round++ {
		var connection *amqp.Connection
		var err error
		for until := time.Now().Add(deadline); ; time.Sleep(50 * time.Millisecond) {
			if connection, err = amqp.Dial(url); err == nil {
				break
			}
			check(time.Now().Before(until), err)
		}
		channel, err := connection.Channel()
		must(err)
		must(channel.ExchangeDeclare("go-recovery", "topic", true, false, false, false, nil))
		_, err = channel.QueueDeclare("go-recovery", true, false, false, false, nil)
		must(err)
		must(channel.QueueBind("go-recovery", "work.#", "go-recovery", false, nil))
		if round == kills {
			deliveries, err := channel.Consume("go-recovery", "", false, false, false, false, nil)
			must(err)
			for len(confirmed) > 0 {
				select {
				case delivery := <-deliveries:
					delete(confirmed, string(delivery.Body))
					must(delivery.Ack(false))
				case <-time.After(deadline):
					panic(fmt.Sprint("lost: ", confirmed))
				}
			}
			must(connection.Close())
			return
		}
		must(channel.Confirm(false))
		closed := connection.NotifyClose(make(chan *amqp.Error, 1))
		told := false
		for going := true; going; {
			body := strconv.Itoa(next)
			next++
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			waits, err := channel.PublishWithDeferredConfirmWithContext(ctx, "go-recovery", "work.go", false, false,
				amqp.Publishing{DeliveryMode: 2, Body: []byte(body)})
			if err == nil {
				if acked, _ := waits.WaitContext(ctx); acked {
					lock.Lock()
					confirmed[body] = true
					lock.Unlock()
				}
			}
			cancel()
			if len(confirmed) >= 100*(round+1) && !told {
				told = true
				fmt.Println("kill")
			}
			select {
			case <-closed:
				going = false
			default:
			}
		}
	}
}
