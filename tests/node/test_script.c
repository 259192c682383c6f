/* Tests of EVAL, EVALSHA and SCRIPT: what the known scripts do, by their SHA1, and what is refused. */
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#include "storage/base/sha1.h"

#define RELEASE "c3f8721cbb97f72bc19e972846bd7aaf91901658"
#define EXTEND "a4e8783852e6b949f9ef3a97212805108459a890"
#define REACQUIRE "1cac51482acf5858da00f6d685d68f886cd6b6b2"
#define ACQUIRE_ALL "96da70f7716f27d278a5218544df37fd8b0a5e4c"
#define EXTEND_ALL "aed6f382e410db8ba7926d4e5e9aab410bf2a78a"
#define REDSYNC_DELETE "e950836ed1e694540c503ef9972b8de518044d3b"
#define REDSYNC_TOUCH_SET "b6b55c439e02c6f52ffb8be7ec8c0d0ac816ea79"
#define RB_LOCK "ceb2b2062e40c51a2b3963fd078bc71f11bdc65c"
#define RB_TTL "78d2ca48a6dc9ef6892059792a3a0c5237733d64"
#define GO_OBTAIN "eb0c00d98f6f33b4262419a509002884540f30be"
#define GO_REFRESH "5a22d7e8431313862816d4416b5e46dd70fc340d"
#define GO_RELEASE "9470c810040e272ee6c579d8d4331aaf6332a7b1"
#define OLD_GO_OBTAIN "80a1b5f2cfccec3b7119ba7721d2127682b691a7"
#define OLD_GO_TTL "6484da7d58920897fdc22b7f9afd1a3d47524ea8"
#define POTTERY_LEFT "f5f7bd3a3aa4a63c507c1155c5ea1219b350d992"
#define GO_TTL "66e1084c2d842a7e8c271925aae90219fac4e129"

TEST(sha1, known_answers)
{
    char text[SHA1_TEXT_SIZE + 1];
    char many[200];
    sha1_text(slice_text(""), text);
    EXPECT_TEXT(text, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    sha1_text(slice_text("abc"), text);
    EXPECT_TEXT(text, "a9993e364706816aba3e25717850c26c9cd0d89d");
    sha1_text(slice_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), text);
    EXPECT_TEXT(text, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    memset(many, 'a', sizeof many);
    sha1_text(slice_of(many, sizeof many), text);
    EXPECT_TEXT(text, "e61cfffe0d9195a525fc6cf06ca2d77119c24a40");
}

struct step {
    const char *ask;
    const char *want;
};

static void walk(const struct step *steps, size_t count)
{
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < count; i++) {
        const char *got = fixture_say(&f, steps[i].ask);
        if (strcmp(got, steps[i].want) != 0) printf("at %s\n", steps[i].ask);
        EXPECT_TEXT(got, steps[i].want);
    }
    fixture_close(&f);
}

TEST(script, each_does_what_its_library_means)
{
    static const struct step steps[] = {
        {"SET l me PX 5000", "+OK\r\n"},
        {"EVALSHA " EXTEND " 1 l other 5000 0", ":0\r\n"},
        {"EVALSHA " EXTEND " 1 l me 100000 0", ":1\r\n"},
        {"TTL l", ":105\r\n"},
        {"EVALSHA " EXTEND " 1 l me 50000 1", ":1\r\n"},
        {"TTL l", ":50\r\n"},
        {"EVALSHA " REACQUIRE " 1 l me 20000", ":1\r\n"},
        {"EVALSHA " REACQUIRE " 1 l other 20000", ":0\r\n"},
        {"TTL l", ":20\r\n"},
        {"EVALSHA " RELEASE " 1 l other", ":0\r\n"},
        {"EVALSHA " RELEASE " 1 l me", ":1\r\n"},
        {"EVALSHA " RELEASE " 1 l me", ":0\r\n"},
        {"EVALSHA " ACQUIRE_ALL " 2 a b me 20000", ":2\r\n"},
        {"EVALSHA " ACQUIRE_ALL " 2 b c other 20000", ":0\r\n"},
        {"EXISTS c", ":0\r\n"},
        {"EVALSHA " EXTEND_ALL " 2 a b other 30000", ":0\r\n"},
        {"EVALSHA " EXTEND_ALL " 2 a b me 30000", ":2\r\n"},
        {"TTL b", ":30\r\n"},
        {"EVALSHA " RELEASE " 3 a b c me", ":2\r\n"},
        {"EVALSHA " REDSYNC_DELETE " 1 a me", ":-1\r\n"},
        {"EVALSHA " REDSYNC_TOUCH_SET " 1 a me 40000", ":1\r\n"},
        {"TTL a", ":40\r\n"},
        {"EVALSHA " REDSYNC_TOUCH_SET " 1 a other 40000", ":0\r\n"},
        {"EVALSHA " REDSYNC_DELETE " 1 a other", ":0\r\n"},
        {"EVALSHA " REDSYNC_DELETE " 1 a me", ":1\r\n"},
        {"EVALSHA " RB_LOCK " 1 r me 10000 no", "$-1\r\n"},
        {"EVALSHA " RB_LOCK " 1 r me 10000 yes", "+OK\r\n"},
        {"EVALSHA " RB_LOCK " 1 r other 10000 yes", "$-1\r\n"},
        {"EVALSHA " RB_LOCK " 1 r me 0 yes", "-ERR invalid expire time in 'set' command\r\n"},
        {"EVALSHA_RO " RB_TTL " 1 none", "*2\r\n$-1\r\n:-2\r\n"},
        {"EVALSHA " GO_OBTAIN " 2 g h token-x 5 60000", "+OK\r\n"},
        {"EVALSHA " GO_OBTAIN " 2 g h token-y 5 70000", "+OK\r\n"},
        {"EVALSHA " GO_OBTAIN " 2 g h other-z 5 70000", "$-1\r\n"},
        {"GET h", "$7\r\ntoken-y\r\n"},
        {"EVALSHA " GO_REFRESH " 2 g h token-x 1000", "$-1\r\n"},
        {"EVALSHA " GO_REFRESH " 2 g h token-y 80000", "+OK\r\n"},
        {"EVALSHA " GO_TTL " 2 g h token-x", "$-1\r\n"},
        {"EVALSHA " GO_RELEASE " 2 g none token-y", "$-1\r\n"},
        {"EVALSHA " GO_RELEASE " 2 g h token-y", "+OK\r\n"},
        {"EXISTS g h", ":0\r\n"},
        {"EVALSHA " OLD_GO_OBTAIN " 1 g token-x 5 60000", "+OK\r\n"},
        {"EVALSHA " OLD_GO_OBTAIN " 1 g token-y 5 70000", "+OK\r\n"},
        {"EVALSHA " OLD_GO_OBTAIN " 1 g other-z 5 70000", "$-1\r\n"},
        {"EVALSHA " OLD_GO_OBTAIN " 1 g other-z 0 70000", "$-1\r\n"},
        {"EVALSHA " OLD_GO_TTL " 1 g other", ":-3\r\n"},
        {"EVALSHA " POTTERY_LEFT " 1 g other", ":0\r\n"},
        {"PERSIST g", ":1\r\n"},
        {"EVALSHA_RO " OLD_GO_TTL " 1 g token-y", ":-1\r\n"},
        {"EVALSHA_RO " POTTERY_LEFT " 1 g token-y", ":0\r\n"},
        {"DEL g", ":1\r\n"},
        {"EVALSHA " OLD_GO_TTL " 1 g token-y", ":-3\r\n"},
        {"EVALSHA " POTTERY_LEFT " 1 g token-y", ":0\r\n"},
    };
    walk(steps, sizeof steps / sizeof steps[0]);
}

TEST(script, others_are_refused)
{
    static const struct step steps[] = {
        {"EVALSHA 0000000000000000000000000000000000000000 0",
         "-NOSCRIPT No matching script. Please use EVAL.\r\n"},
        {"EVALSHA " RELEASE " 2 l", "-ERR Number of keys can't be greater than number of args\r\n"},
        {"EVALSHA " RELEASE " -1 l", "-ERR Number of keys can't be negative\r\n"},
        {"EVALSHA " RELEASE " x l", "-ERR value is not an integer or out of range\r\n"},
        {"EVALSHA " RELEASE " 1 l",
         "-ERR the script takes other numbers of keys and arguments\r\n"},
        {"EVALSHA " REACQUIRE " 1 l me x", "-ERR value is not an integer or out of range\r\n"},
        {"EVALSHA_RO " RELEASE " 1 l me",
         "-ERR Write commands are not allowed from read-only scripts.\r\n"},
        {"SCRIPT EXISTS " RELEASE " abc", "*2\r\n:1\r\n:0\r\n"},
        {"SCRIPT FLUSH", "+OK\r\n"},
        {"SCRIPT KILL", "-NOTBUSY No scripts in execution right now.\r\n"},
    };
    walk(steps, sizeof steps / sizeof steps[0]);
    struct fixture f;
    fixture_open(&f);
    EXPECT_TRUE(strncmp(fixture_say(&f, "EVAL return 0"), "-ERR scripts are not supported", 30) ==
                0);
    EXPECT_TRUE(strncmp(fixture_say(&f, "SCRIPT LOAD x"), "-ERR scripts are not supported", 30) ==
                0);
    static const char text[] = "*5\r\n$4\r\nEVAL\r\n$95\r\n"
                               "if redis.call('get',KEYS[1]) == ARGV[1] then return "
                               "redis.call('del',KEYS[1]) else return 0 end";
    struct buf ask = {0};
    buf_text(&ask, text);
    buf_text(&ask, "\r\n$1\r\n1\r\n$1\r\nl\r\n$2\r\nme\r\n");
    EXPECT_TEXT(fixture_ask(&f, 0, (const char *)ask.data, ask.size), ":0\r\n");
    buf_close(&ask);
    fixture_close(&f);
}
