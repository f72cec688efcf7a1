// Qpid JMS against a node: one scenario per line of standard input. tests/interop/test_qpid_jms.py

import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.DeliveryMode;
import jakarta.jms.InvalidClientIDException;
import jakarta.jms.InvalidDestinationException;
import jakarta.jms.InvalidSelectorException;
import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.QueueBrowser;
import jakarta.jms.Session;
import jakarta.jms.StreamMessage;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.TemporaryTopic;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Enumeration;
import java.util.List;
import org.apache.qpid.jms.JmsConnectionFactory;

public class JmsPeer {
    static final long WAIT = 15000;
    static final long SHORT = 400;
    static String url;

    static Connection connect(String clientId) throws JMSException {
        Connection connection = new JmsConnectionFactory(url).createConnection();
        if (clientId != null) {
            connection.setClientID(clientId);
        }
        connection.start();
        return connection;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object found, Object wanted, String what) {
        check(wanted == null ? found == null : wanted.equals(found), what + ": " + found + ", not " + wanted);
    }

    static String text(Message message) throws JMSException {
        check(message != null, "a message comes");
        return ((TextMessage) message).getText();
    }

    static void nothing(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(SHORT);
        check(message == null, "nothing comes, but " + message);
    }

    static void kinds() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Queue queue = session.createQueue("kinds");
            MessageProducer producer = session.createProducer(queue);
            TextMessage text = session.createTextMessage("grüße");
            text.setJMSType("type");
            text.setJMSCorrelationID("correlation");
            text.setJMSReplyTo(session.createTopic("answers/here"));
            text.setBooleanProperty("bool", true);
            text.setByteProperty("byte", (byte) 1);
            text.setShortProperty("short", (short) 2);
            text.setIntProperty("int", 3);
            text.setLongProperty("long", 4L);
            text.setFloatProperty("float", 5.5f);
            text.setDoubleProperty("double", 6.5);
            text.setStringProperty("string", "s");
            producer.send(text);
            BytesMessage bytes = session.createBytesMessage();
            bytes.writeInt(42);
            producer.send(bytes);
            MapMessage map = session.createMapMessage();
            map.setString("a", "b");
            map.setDouble("d", 1.5);
            producer.send(map);
            StreamMessage stream = session.createStreamMessage();
            stream.writeString("x");
            stream.writeLong(7);
            producer.send(stream);
            ObjectMessage object = session.createObjectMessage(new ArrayList<>(Arrays.asList("p", "q")));
            producer.send(object);
            producer.send(session.createMessage());
            MessageConsumer consumer = session.createConsumer(queue);
            TextMessage found = (TextMessage) consumer.receive(WAIT);
            same(found.getText(), "grüße", "text");
            same(found.getJMSMessageID(), text.getJMSMessageID(), "message id");
            same(found.getJMSType(), "type", "type");
            same(found.getJMSCorrelationID(), "correlation", "correlation id");
            same(((Topic) found.getJMSReplyTo()).getTopicName(), "answers/here", "reply to");
            same(((Queue) found.getJMSDestination()).getQueueName(), "kinds", "destination");
            same(found.getJMSTimestamp(), text.getJMSTimestamp(), "timestamp");
            same(found.getObjectProperty("bool"), true, "bool");
            same(found.getObjectProperty("byte"), (byte) 1, "byte");
            same(found.getObjectProperty("short"), (short) 2, "short");
            same(found.getObjectProperty("int"), 3, "int");
            same(found.getObjectProperty("long"), 4L, "long");
            same(found.getObjectProperty("float"), 5.5f, "float");
            same(found.getObjectProperty("double"), 6.5, "double");
            same(found.getObjectProperty("string"), "s", "string");
            check(!found.getJMSRedelivered(), "it was not delivered before");
            same(((BytesMessage) consumer.receive(WAIT)).readInt(), 42, "bytes");
            MapMessage foundMap = (MapMessage) consumer.receive(WAIT);
            same(foundMap.getString("a") + foundMap.getDouble("d"), "b1.5", "map");
            StreamMessage foundStream = (StreamMessage) consumer.receive(WAIT);
            same(foundStream.readString() + foundStream.readLong(), "x7", "stream");
            same(((ObjectMessage) consumer.receive(WAIT)).getObject(), Arrays.asList("p", "q"), "object");
            Message plain = consumer.receive(WAIT);
            check(plain != null && !(plain instanceof TextMessage) && !(plain instanceof BytesMessage), "plain message");
            nothing(consumer);
        }
    }

    static void topics() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer one = session.createConsumer(session.createTopic("jms/news/+"));
            MessageConsumer two = session.createConsumer(session.createTopic("jms/news/a"));
            MessageProducer producer = session.createProducer(session.createTopic("jms/news/a"));
            producer.send(session.createTextMessage("1"));
            same(text(one.receive(WAIT)), "1", "first reader");
            same(text(two.receive(WAIT)), "1", "second reader");
            two.close();
            producer.send(session.createTextMessage("2"));
            same(text(one.receive(WAIT)), "2", "first reader again");
            nothing(one);
        }
    }

    static void durable() throws Exception {
        Connection connection = connect("durable-client");
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Topic topic = session.createTopic("jms/durable");
        MessageConsumer consumer = session.createDurableSubscriber(topic, "sub");
        MessageProducer producer = session.createProducer(topic);
        producer.send(session.createTextMessage("1"));
        same(text(consumer.receive(WAIT)), "1", "while it is there");
        consumer.close();
        producer.send(session.createTextMessage("2"));
        connection.close();
        connection = connect("durable-client");
        session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        consumer = session.createDurableSubscriber(topic, "sub");
        same(text(consumer.receive(WAIT)), "2", "what came while it was away");
        try {
            session.unsubscribe("sub");
            check(false, "a subscription with a reader is not ended");
        } catch (JMSException expected) {
            check(consumer.receiveNoWait() == null, "it is still there");
        }
        consumer.close();
        session.createProducer(topic).send(session.createTextMessage("3"));
        session.unsubscribe("sub");
        consumer = session.createDurableSubscriber(topic, "sub");
        nothing(consumer);
        consumer.close();
        session.unsubscribe("sub");
        try {
            session.unsubscribe("sub");
            check(false, "what is not there cannot be ended");
        } catch (InvalidDestinationException expected) {
            same(expected.getErrorCode(), expected.getErrorCode(), "");
        }
        connection.close();
    }

    static void shared() throws Exception {
        try (Connection connection = connect(null); Connection other = connect(null);
                Connection owned = connect("shared-client")) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Session second = other.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Topic topic = session.createTopic("jms/shared");
            MessageConsumer one = session.createSharedConsumer(topic, "both");
            MessageConsumer two = second.createSharedConsumer(topic, "both");
            MessageConsumer three = session.createSharedConsumer(topic, "both");
            MessageConsumer durable = session.createSharedDurableConsumer(topic, "kept");
            MessageConsumer mine = owned.createSession(false, Session.AUTO_ACKNOWLEDGE)
                    .createSharedDurableConsumer(topic, "kept");
            MessageProducer producer = session.createProducer(topic);
            int total = 30;
            for (int number = 0; number < total; number++) {
                producer.send(session.createTextMessage("" + number));
            }
            List<String> found = new ArrayList<>();
            for (MessageConsumer consumer : new MessageConsumer[] {one, two, three}) {
                Message message = consumer.receive(2000);
                while (message != null) {
                    found.add(text(message));
                    message = consumer.receive(SHORT);
                }
            }
            same(found.size(), total, "each of them once, to one of the three");
            for (int number = 0; number < total; number++) {
                same(text(durable.receive(WAIT)), "" + number, "the durable one gets all");
                same(text(mine.receive(WAIT)), "" + number, "and so does that of a client id");
            }
            durable.close();
            mine.close();
            session.unsubscribe("kept");
        }
    }

    static void selectors() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Queue queue = session.createQueue("selected");
            MessageConsumer topic = session.createConsumer(
                    session.createTopic("jms/selected"), "color = 'red' AND weight BETWEEN 2 AND 8");
            MessageProducer toTopic = session.createProducer(session.createTopic("jms/selected"));
            MessageProducer toQueue = session.createProducer(queue);
            for (int number = 0; number < 10; number++) {
                for (MessageProducer producer : new MessageProducer[] {toTopic, toQueue}) {
                    TextMessage message = session.createTextMessage("" + number);
                    message.setStringProperty("color", number % 2 == 0 ? "red" : "blue");
                    message.setIntProperty("weight", number);
                    producer.send(message, DeliveryMode.PERSISTENT, number, 0);
                }
            }
            for (String wanted : new String[] {"2", "4", "6", "8"}) {
                same(text(topic.receive(WAIT)), wanted, "selected from the topic");
            }
            nothing(topic);
            MessageConsumer blue = session.createConsumer(queue, "color LIKE 'bl%' AND JMSPriority > 4");
            for (String wanted : new String[] {"5", "7", "9"}) {
                same(text(blue.receive(WAIT)), wanted, "selected from the queue");
            }
            check(blue.receiveNoWait() == null, "no more of these");
            blue.close();
            MessageConsumer rest = session.createConsumer(queue);
            for (String wanted : new String[] {"0", "1", "2", "3", "4", "6", "8"}) {
                same(text(rest.receive(WAIT)), wanted, "the rest in order");
            }
            nothing(rest);
            try {
                session.createConsumer(queue, "color = ");
                check(false, "a broken selector is refused");
            } catch (InvalidSelectorException expected) {
                return;
            } catch (JMSException refused) {
                check(refused.getMessage().contains("selector"), "the refusal says why: " + refused.getMessage());
            }
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
            Session plain = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Queue from = session.createQueue("tx-from");
            Queue to = session.createQueue("tx-to");
            plain.createProducer(from).send(plain.createTextMessage("work"));
            MessageConsumer consumer = session.createConsumer(from);
            MessageConsumer results = plain.createConsumer(to);
            MessageProducer producer = session.createProducer(to);
            same(text(consumer.receive(WAIT)), "work", "first try");
            producer.send(session.createTextMessage("half done"));
            nothing(results);
            session.rollback();
            nothing(results);
            Message again = consumer.receive(WAIT);
            same(text(again), "work", "second try");
            check(again.getJMSRedelivered(), "a rollback counts");
            same(again.getIntProperty("JMSXDeliveryCount"), 2, "delivery count");
            producer.send(session.createTextMessage("done"));
            session.commit();
            same(text(results.receive(WAIT)), "done", "what was committed");
            nothing(results);
            check(consumer.receive(SHORT) == null, "the work is done");
            session.commit();
            for (int number = 0; number < 50; number++) {
                producer.send(session.createTextMessage("" + number));
            }
            session.commit();
            for (int number = 0; number < 50; number++) {
                same(text(results.receive(WAIT)), "" + number, "in order");
            }
        }
    }

    static void browser() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Queue queue = session.createQueue("browsed");
            MessageProducer producer = session.createProducer(queue);
            for (int number = 0; number < 250; number++) {
                producer.send(session.createTextMessage("" + number));
            }
            for (int round = 0; round < 2; round++) {
                QueueBrowser browser = session.createBrowser(queue);
                Enumeration<?> messages = browser.getEnumeration();
                int count = 0;
                while (messages.hasMoreElements()) {
                    same(text((Message) messages.nextElement()), "" + count, "browsed in order");
                    count++;
                }
                same(count, 250, "all of them, and they stay");
                browser.close();
            }
            check(!session.createBrowser(session.createQueue("browsed-empty")).getEnumeration().hasMoreElements(),
                    "an empty queue is empty");
        }
    }

    static void temporary() throws Exception {
        try (Connection connection = connect(null); Connection other = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            Session server = other.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer requests = server.createConsumer(server.createQueue("ask"));
            TemporaryQueue answers = session.createTemporaryQueue();
            MessageConsumer reader = session.createConsumer(answers);
            MessageProducer asker = session.createProducer(session.createQueue("ask"));
            MessageProducer answerer = server.createProducer(null);
            for (int number = 0; number < 20; number++) {
                Message request = session.createTextMessage("" + number);
                request.setJMSReplyTo(answers);
                asker.send(request);
                Message asked = requests.receive(WAIT);
                Message answer = server.createTextMessage("re " + text(asked));
                answer.setJMSCorrelationID(asked.getJMSMessageID());
                answerer.send(asked.getJMSReplyTo(), answer);
                Message got = reader.receive(WAIT);
                same(text(got), "re " + number, "the answer");
                same(got.getJMSCorrelationID(), request.getJMSMessageID(), "to this request");
            }
            try {
                server.createConsumer(answers);
                check(false, "nobody else reads a temporary queue");
            } catch (JMSException expected) {
                reader.close();
            }
            answers.delete();
            TemporaryTopic news = session.createTemporaryTopic();
            MessageConsumer one = session.createConsumer(news);
            MessageConsumer two = session.createConsumer(news);
            answerer.send(news, server.createTextMessage("news"));
            same(text(one.receive(WAIT)), "news", "temporary topic, first reader");
            same(text(two.receive(WAIT)), "news", "temporary topic, second reader");
        }
    }

    static void options() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
            Queue queue = session.createQueue("options");
            MessageProducer producer = session.createProducer(queue);
            producer.send(session.createTextMessage("short"), DeliveryMode.PERSISTENT, 4, 150);
            Thread.sleep(300);
            producer.send(session.createTextMessage("long"), DeliveryMode.NON_PERSISTENT, 9, 60000);
            MessageConsumer consumer = session.createConsumer(queue);
            Message found = consumer.receive(WAIT);
            same(text(found), "long", "what has expired does not come");
            same(found.getJMSPriority(), 9, "priority");
            same(found.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "delivery mode");
            check(found.getJMSExpiration() > System.currentTimeMillis() + 50000, "expiration");
            session.recover();
            found = consumer.receive(WAIT);
            same(found.getIntProperty("JMSXDeliveryCount"), 2, "recover counts");
            found.acknowledge();
            nothing(consumer);
        }
    }

    static void delayed() throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageProducer producer = session.createProducer(session.createQueue("delayed"));
            MessageConsumer consumer = session.createConsumer(session.createQueue("delayed"));
            producer.setDeliveryDelay(700);
            long start = System.currentTimeMillis();
            producer.send(session.createTextMessage("late"));
            producer.setDeliveryDelay(0);
            producer.send(session.createTextMessage("now"));
            same(text(consumer.receive(WAIT)), "now", "what is not delayed goes before");
            Message late = consumer.receive(WAIT);
            same(text(late), "late", "and then the other");
            check(System.currentTimeMillis() - start >= 690, "not too early");
            same(late.getIntProperty("JMSXDeliveryCount"), 1, "it was delivered once");
        }
    }

    static void clientId() throws Exception {
        try (Connection connection = connect("only-one")) {
            try {
                connect("only-one").close();
                check(false, "a client id is taken once");
            } catch (InvalidClientIDException expected) {
                check(connection.getClientID().equals("only-one"), "the first one stays");
            }
        }
        connect("only-one").close();
    }

    static void fill(String name, int count) throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageProducer producer = session.createProducer(session.createQueue(name));
            for (int number = 0; number < count; number++) {
                producer.send(session.createTextMessage("" + number));
            }
        }
    }

    // Takes without acknowledging until the node is gone; says so when it has what it wants.
    static void hold(String name, int count) throws Exception {
        Connection connection = connect(null);
        Session session = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(session.createQueue(name));
        for (int number = 0; number < count; number++) {
            same(text(consumer.receive(WAIT)), "" + number, "held");
        }
        System.out.println("held");
        try {
            while (true) {
                Thread.sleep(50);
                session.createTemporaryQueue().delete();
            }
        } catch (JMSException gone) {
            try {
                connection.close();
            } catch (JMSException again) {
                return;
            }
        }
    }

    static void again(String name, int count) throws Exception {
        try (Connection connection = connect(null)) {
            Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            MessageConsumer consumer = session.createConsumer(session.createQueue(name));
            for (int number = 0; number < count; number++) {
                Message message = consumer.receive(WAIT);
                same(text(message), "" + number, "again, in order");
                if (number == 0) {
                    check(message.getJMSRedelivered(), "marked");
                }
            }
            nothing(consumer);
        }
    }

    static void run(String[] words) throws Exception {
        switch (words[0]) {
            case "kinds": kinds(); break;
            case "topics": topics(); break;
            case "durable": durable(); break;
            case "shared": shared(); break;
            case "selectors": selectors(); break;
            case "transactions": transactions(); break;
            case "browser": browser(); break;
            case "temporary": temporary(); break;
            case "options": options(); break;
            case "delayed": delayed(); break;
            case "client-id": clientId(); break;
            case "fill": fill(words[1], Integer.parseInt(words[2])); break;
            case "hold": hold(words[1], Integer.parseInt(words[2])); break;
            case "again": again(words[1], Integer.parseInt(words[2])); break;
            default: throw new AssertionError("unknown scenario " + String.join(" ", Collections.singletonList(words[0])));
        }
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                run(line.trim().split(" "));
                System.out.println("ok " + line);
            } catch (Throwable wrong) {
                wrong.printStackTrace(System.out);
                System.out.println("failed " + line);
            }
        }
    }
}
