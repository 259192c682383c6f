// go-redis, as clients.py starts it:
//
//	driver go-redis check|load standalone|sentinel|cluster PORT,PORT,... [SECONDS]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func equal(what string, want, got interface{}) {
	if !reflect.DeepEqual(want, got) {
		must(fmt.Errorf("%s: want %v, got %v", what, want, got))
	}
}

func check(client redis.UniversalClient, face string) {
	key := func(name string) string { return "{go-redis:" + face + "}" + name }
	text := func(what, want string, got *redis.StringCmd) {
		value, err := got.Result()
		must(err)
		equal(what, want, value)
	}
	number := func(what string, want int64, got *redis.IntCmd) {
		value, err := got.Result()
		must(err)
		equal(what, want, value)
	}
	bytes := string([]byte{0, 255, 13, 10, 128})
	must(client.Set(ctx, key("k"), bytes, 0).Err())
	text("get", bytes, client.Get(ctx, key("k")))
	equal("no such key", redis.Nil, client.Get(ctx, key("nothing")).Err())
	taken, err := client.SetNX(ctx, key("k"), "w", 0).Result()
	must(err)
	equal("setnx", false, taken)
	must(client.Set(ctx, key("k"), "w", 100*time.Second).Err())
	left, err := client.PTTL(ctx, key("k")).Result()
	must(err)
	equal("pttl", true, left > 90*time.Second)
	number("append", 2, client.Append(ctx, key("k"), "!"))
	number("incrby", 41, client.IncrBy(ctx, key("n"), 41))
	number("incr", 42, client.Incr(ctx, key("n")))
	must(client.MSet(ctx, key("a"), "1", key("b"), "2").Err())
	values, err := client.MGet(ctx, key("a"), key("b"), key("c")).Result()
	must(err)
	equal("mget", []interface{}{"1", "2", nil}, values)
	number("exists", 2, client.Exists(ctx, key("a"), key("b"), key("c")))
	text("getdel", "1", client.GetDel(ctx, key("a")))
	text("getrange", "w", client.GetRange(ctx, key("k"), 0, 0))
	if err := client.LPush(ctx, key("list"), "x").Err(); err == nil || !strings.Contains(err.Error(), "unknown command") {
		must(fmt.Errorf("lpush: %v", err))
	}
	var gets []*redis.StringCmd
	_, err = client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := 0; i < 200; i++ {
			pipe.Set(ctx, key("p:"+strconv.Itoa(i)), i, 0)
			gets = append(gets, pipe.Get(ctx, key("p:"+strconv.Itoa(i))))
		}
		return nil
	})
	must(err)
	for i, get := range gets {
		text("pipeline", strconv.Itoa(i), get)
	}
	var last *redis.StringCmd
	_, err = client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, key("t"), 1, 0)
		pipe.Incr(ctx, key("t"))
		last = pipe.Get(ctx, key("t"))
		return nil
	})
	must(err)
	text("transaction", "2", last)
	err = client.Watch(ctx, func(tx *redis.Tx) error {
		must(client.Set(ctx, key("t"), "changed", 0).Err())
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, key("t"), "lost", 0)
			return nil
		})
		return err
	}, key("t"))
	equal("watch", redis.TxFailedErr, err)
	text("after watch", "changed", client.Get(ctx, key("t")))
	listener := client.Subscribe(ctx, "news")
	_, err = listener.Receive(ctx)
	must(err)
	must(client.Publish(ctx, "news", "hello").Err())
	select {
	case message := <-listener.Channel():
		equal("message", "hello", message.Payload)
	case <-time.After(5 * time.Second):
		must(errors.New("no message"))
	}
	must(listener.Close())
}

type result struct {
	Operations int      `json:"operations"`
	Failed     int      `json:"failed"`
	LongestMs  int64    `json:"longest_ms"`
	Last       int      `json:"last"`
	Errors     []string `json:"errors"`
}

func load(client redis.UniversalClient, face string, seconds float64) {
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	all := result{Last: -1, Errors: []string{}}
	for i := 0; time.Now().Before(end); i++ {
		begin := time.Now()
		if err := client.Set(ctx, "load:go-redis:"+face, i, 0).Err(); err == nil {
			all.Last = i
		} else {
			all.Failed++
			if len(all.Errors) < 5 {
				all.Errors = append(all.Errors, err.Error())
			}
		}
		all.Operations++
		if taken := time.Since(begin).Milliseconds(); taken > all.LongestMs {
			all.LongestMs = taken
		}
		if i == 0 {
			fmt.Println("running")
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, err := json.Marshal(all)
	must(err)
	fmt.Println(string(text))
}

func main() {
	mode, face := os.Args[2], os.Args[3]
	var addresses []string
	for _, port := range strings.Split(os.Args[4], ",") {
		addresses = append(addresses, "127.0.0.1:"+port)
	}
	var client redis.UniversalClient
	switch face {
	case "cluster":
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addresses})
	case "sentinel":
		client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: addresses})
	default:
		client = redis.NewClient(&redis.Options{Addr: addresses[0]})
	}
	if mode == "check" {
		check(client, face)
		fmt.Println("ok")
		return
	}
	seconds, err := strconv.ParseFloat(os.Args[5], 64)
	must(err)
	load(client, face, seconds)
}
