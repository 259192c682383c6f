// Jedis, as clients.py starts it:
//   java Driver jedis check|load standalone|sentinel|cluster PORT,PORT,... [SECONDS]
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.AbstractPipeline;
import redis.clients.jedis.AbstractTransaction;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisCluster;
import redis.clients.jedis.JedisPooled;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.JedisSentineled;
import redis.clients.jedis.Response;
import redis.clients.jedis.UnifiedJedis;
import redis.clients.jedis.exceptions.JedisException;
import redis.clients.jedis.params.SetParams;

public class Driver {
    static void equal(String what, Object want, Object got) {
        if (!Objects.deepEquals(want, got)) throw new IllegalStateException(what + ": want " + want + ", got " + got);
    }

    static UnifiedJedis open(String face, Set<HostAndPort> nodes) {
        DefaultJedisClientConfig config = DefaultJedisClientConfig.builder().build();
        switch (face) {
        case "cluster": return new JedisCluster(nodes, config);
        case "sentinel": return new JedisSentineled("mymaster", config, nodes, config);
        default: return new JedisPooled(nodes.iterator().next(), config);
        }
    }

    static void check(UnifiedJedis client, String face, HostAndPort first) throws Exception {
        String tag = "{jedis:" + face + "}";
        byte[] bytes = {0, -1, 13, 10, -128};
        equal("set", "OK", client.set((tag + "k").getBytes(), bytes));
        equal("get", bytes, client.get((tag + "k").getBytes()));
        equal("no such key", null, client.get(tag + "nothing"));
        equal("nx", null, client.set(tag + "k", "w", SetParams.setParams().nx()));
        equal("px", "OK", client.set(tag + "k", "w", SetParams.setParams().px(100000)));
        equal("pttl", true, client.pttl(tag + "k") > 90000);
        equal("append", 2L, client.append(tag + "k", "!"));
        equal("incrby", 41L, client.incrBy(tag + "n", 41));
        equal("incr", 42L, client.incr(tag + "n"));
        equal("mset", "OK", client.mset(tag + "a", "1", tag + "b", "2"));
        equal("mget", Arrays.asList("1", "2", null), client.mget(tag + "a", tag + "b", tag + "c"));
        equal("exists", 2L, client.exists(tag + "a", tag + "b", tag + "c"));
        equal("getdel", "1", client.getDel(tag + "a"));
        equal("getrange", "w", client.getrange(tag + "k", 0, 0));
        try {
            client.lpush(tag + "list", "x");
            throw new IllegalStateException("lpush was taken");
        } catch (JedisException error) {
            equal("lpush", true, error.getMessage().contains("unknown command"));
        }
        List<Response<String>> gets = new ArrayList<>();
        try (AbstractPipeline pipeline = client.pipelined()) {
            for (int i = 0; i < 200; i++) {
                pipeline.set(tag + "p:" + i, String.valueOf(i));
                gets.add(pipeline.get(tag + "p:" + i));
            }
            pipeline.sync();
        }
        for (int i = 0; i < 200; i++) equal("pipeline", String.valueOf(i), gets.get(i).get());
        if (!face.equals("cluster")) { // JedisCluster has no transactions.
            try (AbstractTransaction transaction = client.multi()) {
                transaction.set(tag + "t", "1");
                transaction.incr(tag + "t");
                transaction.get(tag + "t");
                equal("transaction", Arrays.asList("OK", 2L, "2"), transaction.exec());
            }
            try (AbstractTransaction transaction = client.transaction(false)) {
                transaction.watch(tag + "t");
                client.set(tag + "t", "changed");
                transaction.multi();
                transaction.set(tag + "t", "lost");
                equal("watch", null, transaction.exec());
            }
            equal("after watch", "changed", client.get(tag + "t"));
        }
        CountDownLatch ready = new CountDownLatch(1);
        CountDownLatch heard = new CountDownLatch(1);
        JedisPubSub listener = new JedisPubSub() {
            @Override
            public void onSubscribe(String channel, int count) {
                ready.countDown();
            }

            @Override
            public void onMessage(String channel, String message) {
                if (message.equals("hello")) heard.countDown();
                unsubscribe();
            }
        };
        Thread thread = new Thread(() -> client.subscribe(listener, "news"));
        thread.start();
        equal("subscribed", true, ready.await(5, TimeUnit.SECONDS));
        client.publish("news", "hello");
        equal("message", true, heard.await(5, TimeUnit.SECONDS));
        thread.join();
    }

    static void load(UnifiedJedis client, String face, double seconds) throws Exception {
        long end = System.nanoTime() + (long) (seconds * 1e9);
        int operations = 0;
        int failed = 0;
        int last = -1;
        long longest = 0;
        List<String> errors = new ArrayList<>();
        for (int i = 0; System.nanoTime() < end; i++) {
            long begin = System.nanoTime();
            try {
                client.set("load:jedis:" + face, String.valueOf(i));
                last = i;
            } catch (JedisException error) {
                failed++;
                if (errors.size() < 5) errors.add(error.toString().replaceAll("[^ -~]|[\"\\\\]", " "));
            }
            operations++;
            longest = Math.max(longest, (System.nanoTime() - begin) / 1000000);
            if (i == 0) System.out.println("running");
            Thread.sleep(20);
        }
        StringBuilder list = new StringBuilder();
        for (String error : errors) list.append(list.length() > 0 ? ", " : "").append('"').append(error).append('"');
        System.out.printf("{\"operations\": %d, \"failed\": %d, \"longest_ms\": %d, \"last\": %d, \"errors\": [%s]}%n",
                          operations, failed, longest, last, list);
    }

    public static void main(String[] args) throws Exception {
        Set<HostAndPort> nodes = new java.util.LinkedHashSet<>();
        for (String port : args[3].split(",")) nodes.add(new HostAndPort("127.0.0.1", Integer.parseInt(port)));
        try (UnifiedJedis client = open(args[2], nodes)) {
            if (args[1].equals("check")) {
                check(client, args[2], nodes.iterator().next());
                System.out.println("ok");
            } else {
                load(client, args[2], Double.parseDouble(args[4]));
            }
        }
        System.exit(0);
    }
}
