// The real KPL puts what comes on standard input into a stream.
//
// Arguments: name of the stream, port of a server that answers Kinesis, STS and CloudWatch over TLS,
// folder for the native program. A line is one user record: partition key in base64, explicit hash
// key or "-", data in base64. When all of them are in the stream a line for each says where: shard
// and sequence number.

import com.google.common.util.concurrent.ListenableFuture;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;

public class PutByKpl {
    // The KPL sends records alone until it has the list of shards, which it does not tell about.
    private static final long LISTED_MILLIS = 3000;

    public static void main(String[] arguments) throws Exception {
        String stream = arguments[0];
        long port = Long.parseLong(arguments[1]);
        String here = "127.0.0.1";
        KinesisProducer producer = new KinesisProducer(new KinesisProducerConfiguration()
                .setKinesisEndpoint(here).setKinesisPort(port)
                .setStsEndpoint(here).setStsPort(port)
                .setCloudwatchEndpoint(here).setCloudwatchPort(port)
                .setVerifyCertificate(false)
                .setRegion("us-east-1")
                .setMetricsLevel("none")
                .setLogLevel("warning")
                .setRecordTtl(120000)
                .setRequestTimeout(30000)
                .setTempDirectory(arguments[2])
                .setCredentialsProvider(StaticCredentialsProvider.create(
                        AwsBasicCredentials.create("testing", "testing"))));
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        List<ListenableFuture<UserRecordResult>> results = new ArrayList<>();
        Base64.Decoder decoder = Base64.getDecoder();
        String line;
        while ((line = lines.readLine()) != null) {
            String[] parts = line.split(" ", -1);
            String key = new String(decoder.decode(parts[0]), StandardCharsets.UTF_8);
            String hashKey = parts[1].equals("-") ? null : parts[1];
            ByteBuffer data = ByteBuffer.wrap(decoder.decode(parts[2]));
            results.add(producer.addUserRecord(stream, key, hashKey, data));
            if (results.size() == 1) {
                results.get(0).get();
                Thread.sleep(LISTED_MILLIS);
            }
        }
        producer.flushSync();
        StringBuilder told = new StringBuilder();
        for (ListenableFuture<UserRecordResult> future : results) {
            UserRecordResult result = future.get();
            told.append(result.getShardId()).append(' ').append(result.getSequenceNumber()).append('\n');
        }
        System.out.print(told);
        System.out.flush();
        producer.destroy();
        System.exit(0);
    }
}
