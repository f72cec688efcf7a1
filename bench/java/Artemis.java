import java.io.File;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;

/** ActiveMQ Artemis for bench/rows/amqp10.py: PORT FOLDER. Durable and synced, as `artemis create` makes a broker. */
public class Artemis {
    public static void main(String[] arguments) throws Exception {
        String folder = arguments[1];
        new File(folder).mkdirs();
        ConfigurationImpl configuration = new ConfigurationImpl();
        configuration.setName("bench").setSecurityEnabled(false).setPersistenceEnabled(true)
            .setJournalType(JournalType.NIO).setJournalDatasync(true).setJMXManagementEnabled(false)
            .setJournalDirectory(folder + "/journal").setBindingsDirectory(folder + "/bindings")
            .setPagingDirectory(folder + "/paging").setLargeMessagesDirectory(folder + "/large")
            .setJournalBufferTimeout_NIO((int) syncNanos(folder)).setMaxDiskUsage(100);
        configuration.addAcceptorConfiguration("amqp", "tcp://127.0.0.1:" + arguments[0]
            + "?protocols=AMQP&amqpCredits=1000&amqpLowCredits=300&useEpoll=true");
        EmbeddedActiveMQ server = new EmbeddedActiveMQ();
        server.setConfiguration(configuration);
        server.start();
        System.out.println("ready");
        Thread.currentThread().join();
    }

    /** The journal waits as long as a sync takes, which is what `artemis create` finds out, too. */
    private static long syncNanos(String folder) throws Exception {
        File file = new File(folder, "sync.tmp");
        long begun;
        try (RandomAccessFile opened = new RandomAccessFile(file, "rw"); FileChannel channel = opened.getChannel()) {
            ByteBuffer block = ByteBuffer.allocateDirect(4096);
            for (int number = 0; number < 300; number++) {
                block.clear();
                channel.write(block, number * 4096L);
            }
            channel.force(true);
            begun = System.nanoTime();
            for (int number = 0; number < 200; number++) {
                block.clear();
                channel.write(block, number * 4096L);
                channel.force(false);
            }
        }
        file.delete();
        return (System.nanoTime() - begun) / 200;
    }
}
