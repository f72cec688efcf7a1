// Azure's go-amqp against a node: go_amqp10 PORT. Reads scenarios from standard input, one a line, and answers each with
// "ok NAME" or what went wrong and "failed NAME".
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/Azure/go-amqp"
)

var url string

func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	time.AfterFunc(21*time.Second, cancel)
	return ctx
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, what string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(what, values...))
	}
}

func session() (*amqp.Conn, *amqp.Session) {
	conn, err := amqp.Dial(within(), url, &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
	must(err)
	found, err := conn.NewSession(within(), nil)
	must(err)
	return conn, found
}

func values() {
	conn, ses := session()
	defer conn.Close()
	sender, err := ses.NewSender(within(), "queue://go", nil)
	must(err)
	sent := &amqp.Message{
		Header:     &amqp.MessageHeader{Durable: true, Priority: 3},
		Properties: &amqp.MessageProperties{MessageID: uint64(5), CorrelationID: amqp.UUID{1, 2}, GroupID: ptr("g")},
		Annotations: amqp.Annotations{"x-opt-a": int32(1)},
		ApplicationProperties: map[string]any{"u8": uint8(1), "u16": uint16(2), "u32": uint32(3), "u64": uint64(4), "i8": int8(5),
			"i16": int16(6), "i32": int32(7), "i64": int64(8), "f32": float32(1.5), "f64": 2.5, "s": "x", "b": []byte{0, 255},
			"t": time.UnixMilli(1700000000000).UTC(), "yes": true, "none": nil},
		Data: [][]byte{[]byte("one"), []byte("two")},
	}
	must(sender.Send(within(), sent, nil))
	receiver, err := ses.NewReceiver(within(), "queue://go", nil)
	must(err)
	found, err := receiver.Receive(within(), nil)
	must(err)
	check(len(found.Data) == 2 && bytes.Equal(found.Data[1], []byte("two")), "data %v", found.Data)
	for name, value := range sent.ApplicationProperties {
		if raw, is := value.([]byte); is {
			check(bytes.Equal(raw, found.ApplicationProperties[name].([]byte)), "%s", name)
		} else {
			check(fmt.Sprintf("%T %v", value, value) == fmt.Sprintf("%T %v", found.ApplicationProperties[name],
				found.ApplicationProperties[name]), "%s: %v", name, found.ApplicationProperties[name])
		}
	}
	check(found.Properties.MessageID == uint64(5), "id %v", found.Properties.MessageID)
	check(found.Properties.CorrelationID == amqp.UUID{1, 2}, "correlation %v", found.Properties.CorrelationID)
	check(found.Header.Durable && found.Header.Priority == 3, "header %v", found.Header)
	must(receiver.AcceptMessage(within(), found))
}

func ptr(text string) *string { return &text }

func outcomes() {
	conn, ses := session()
	defer conn.Close()
	sender, err := ses.NewSender(within(), "queue://go-outcomes", nil)
	must(err)
	must(sender.Send(within(), amqp.NewMessage([]byte("x")), nil))
	receiver, err := ses.NewReceiver(within(), "queue://go-outcomes", &amqp.ReceiverOptions{Credit: 1})
	must(err)
	found, err := receiver.Receive(within(), nil)
	must(err)
	must(receiver.ReleaseMessage(within(), found))
	found, err = receiver.Receive(within(), nil)
	must(err)
	check(found.Header == nil || found.Header.DeliveryCount == 0, "released does not count")
	must(receiver.ModifyMessage(within(), found, &amqp.ModifyMessageOptions{DeliveryFailed: true}))
	found, err = receiver.Receive(within(), nil)
	must(err)
	check(found.Header.DeliveryCount == 1, "modified counts")
	must(receiver.RejectMessage(within(), found, &amqp.Error{Condition: "a:b"}))
	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = receiver.Receive(short, nil)
	check(errors.Is(err, context.DeadlineExceeded), "rejected is gone, but %v", err)
}

// The second receiver settle mode, and unsettled or settled senders.
func modes() {
	conn, ses := session()
	defer conn.Close()
	for _, sends := range []amqp.SenderSettleMode{amqp.SenderSettleModeUnsettled, amqp.SenderSettleModeSettled, amqp.SenderSettleModeMixed} {
		for _, receives := range []amqp.ReceiverSettleMode{amqp.ReceiverSettleModeFirst, amqp.ReceiverSettleModeSecond} {
			address := fmt.Sprintf("queue://go-modes-%d-%d", sends, receives)
			sender, err := ses.NewSender(within(), address, &amqp.SenderOptions{
				SettlementMode: sends.Ptr(), RequestedReceiverSettleMode: amqp.ReceiverSettleModeFirst.Ptr()})
			must(err)
			receiver, err := ses.NewReceiver(within(), address, &amqp.ReceiverOptions{SettlementMode: receives.Ptr()})
			must(err)
			for number := 0; number < 20; number++ {
				must(sender.Send(within(), amqp.NewMessage([]byte{byte(number)}), nil))
			}
			for number := 0; number < 20; number++ {
				found, err := receiver.Receive(within(), nil)
				must(err)
				check(found.GetData()[0] == byte(number), "order")
				must(receiver.AcceptMessage(within(), found))
			}
			must(receiver.Close(within()))
			must(sender.Close(within()))
		}
	}
}

// Credit by hand, and a drain with credit 0, which some brokers never answer.
func drain() {
	conn, ses := session()
	defer conn.Close()
	receiver, err := ses.NewReceiver(within(), "queue://go-drain", &amqp.ReceiverOptions{Credit: -1})
	must(err)
	must(receiver.IssueCredit(5))
	must(receiver.DrainCredit(within(), nil))
	must(receiver.DrainCredit(within(), nil))
	sender, err := ses.NewSender(within(), "queue://go-drain", nil)
	must(err)
	must(sender.Send(within(), amqp.NewMessage([]byte("x")), nil))
	must(receiver.IssueCredit(5))
	found, err := receiver.Receive(within(), nil)
	must(err)
	must(receiver.AcceptMessage(within(), found))
	must(receiver.DrainCredit(within(), nil))
}

func dynamic() {
	conn, ses := session()
	defer conn.Close()
	receiver, err := ses.NewReceiver(within(), "", &amqp.ReceiverOptions{DynamicAddress: true})
	must(err)
	sender, err := ses.NewSender(within(), receiver.Address(), nil)
	must(err)
	must(sender.Send(within(), amqp.NewMessage([]byte("x")), nil))
	found, err := receiver.Receive(within(), nil)
	must(err)
	check(string(found.GetData()) == "x", "data")
	_, err = ses.NewReceiver(within(), "queue://go", &amqp.ReceiverOptions{
		Filters: []amqp.LinkFilter{amqp.NewSelectorFilter("a = ")}})
	var refused *amqp.Error
	check(errors.As(err, &refused) && refused.Condition == amqp.ErrCondInvalidField, "refused %v", err)
	_, err = ses.NewSender(within(), "/queues/not-there", nil)
	check(errors.As(err, &refused) && refused.Condition == amqp.ErrCondNotFound, "refused %v", err)
}

// A thousand sessions on one connection, each with a link.
func sessions() {
	conn, _ := session()
	defer conn.Close()
	for number := 0; number < 1000; number++ {
		ses, err := conn.NewSession(within(), nil)
		must(err)
		sender, err := ses.NewSender(within(), "queue://go-sessions", nil)
		must(err)
		if number%100 == 0 {
			must(sender.Send(within(), amqp.NewMessage([]byte("x")), nil))
		}
	}
}

func main() {
	url = "amqp://127.0.0.1:" + os.Args[1]
	scenarios := map[string]func(){"values": values, "outcomes": outcomes, "modes": modes, "drain": drain, "dynamic": dynamic,
		"sessions": sessions}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		name := strings.TrimSpace(lines.Text())
		func() {
			defer func() {
				if wrong := recover(); wrong != nil {
					fmt.Println(wrong)
					fmt.Println("failed", name)
				}
			}()
			scenarios[name]()
			fmt.Println("ok", name)
		}()
	}
}
