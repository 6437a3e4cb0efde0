// The KCL's own de-aggregation over records from standard input, with the ranges of their shards.
//
// A line is one Kinesis record: first and last hash key of the shard that holds it, sequence number,
// partition key and data, separated by blanks, the last two in base64. For each record comes one
// line for every user record that the KCL hands on: sequence number, sub-sequence number, explicit
// hash key or "-", partition key and data; then a line "." that ends the record.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

public class Deaggregate {
    private static final Base64.Decoder DECODER = Base64.getDecoder();
    private static final Base64.Encoder ENCODER = Base64.getEncoder();

    public static void main(String[] arguments) throws Exception {
        AggregatorUtil kcl = new AggregatorUtil();
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out));
        String line;
        while ((line = lines.readLine()) != null) {
            String[] parts = line.split(" ", -1);
            KinesisClientRecord record = KinesisClientRecord.builder()
                    .sequenceNumber(parts[2])
                    .partitionKey(text(parts[3]))
                    .data(ByteBuffer.wrap(DECODER.decode(parts[4])))
                    .approximateArrivalTimestamp(Instant.EPOCH)
                    .build();
            StringBuilder told = new StringBuilder();
            for (KinesisClientRecord user : kcl.deaggregate(List.of(record), parts[0], parts[1])) {
                String hashKey = user.explicitHashKey();
                told.append(user.sequenceNumber()).append(' ')
                        .append(user.subSequenceNumber()).append(' ')
                        .append(hashKey == null || hashKey.isEmpty() ? "-" : hashKey).append(' ')
                        .append(base64(user.partitionKey().getBytes(StandardCharsets.UTF_8)))
                        .append(' ').append(base64(bytes(user.data()))).append('\n');
            }
            out.print(told.append(".\n"));
        }
        out.flush();
    }

    private static String text(String encoded) {
        return new String(DECODER.decode(encoded), StandardCharsets.UTF_8);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] found = new byte[buffer.remaining()];
        buffer.duplicate().get(found);
        return found;
    }

    private static String base64(byte[] data) {
        return ENCODER.encodeToString(data);
    }
}
