// Lock libraries for Go. driver LIBRARY PORT OTHER-PORT: prints ok, or fails.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

type lock interface {
	extend() error // to a minute
	release() error
}

func must(what string, holds bool) {
	if !holds {
		fmt.Fprintln(os.Stderr, what)
		os.Exit(1)
	}
}

func check(err error) {
	must(fmt.Sprint(err), err == nil)
}

type syncLock struct {
	client *redis.Client
	name   string
	mutex  *redsync.Mutex
}

func (l *syncLock) release() error {
	ok, err := l.mutex.Unlock()
	if err == nil && !ok {
		return fmt.Errorf("not unlocked")
	}
	return err
}

func (l *syncLock) extend() error {
	ok, err := l.mutex.Extend()
	if err == nil && !ok {
		return fmt.Errorf("not extended")
	}
	return err
}

func takeSync(client *redis.Client, name string, ttl time.Duration) (lock, error) {
	pool := redsync.New(goredis.NewPool(client))
	mutex := pool.NewMutex(name, redsync.WithTries(1), redsync.WithExpiry(ttl), redsync.WithSetNXOnExtend())
	return &syncLock{client, name, mutex}, mutex.Lock()
}

type plainSync struct{ syncLock }

func takePlainSync(client *redis.Client, name string, ttl time.Duration) (lock, error) {
	mutex := redsync.New(goredis.NewPool(client)).NewMutex(name, redsync.WithTries(1), redsync.WithExpiry(ttl))
	return &plainSync{syncLock{client, name, mutex}}, mutex.Lock()
}

type islock struct{ *redislock.Lock }

func (l islock) extend() error  { return l.Refresh(ctx, time.Minute, nil) }
func (l islock) release() error { return l.Release(ctx) }

func takeIslock(client *redis.Client, name string, ttl time.Duration) (lock, error) {
	taken, err := redislock.Obtain(ctx, client, name, ttl, nil)
	if err != nil {
		return nil, err
	}
	left, err := taken.TTL(ctx)
	check(err)
	must("its time to live", left > 0 && left <= ttl)
	return islock{taken}, nil
}

func main() {
	takes := map[string]func(*redis.Client, string, time.Duration) (lock, error){
		"redsync": takePlainSync, "redsync-set": takeSync, "redislock": takeIslock}
	library := os.Args[1]
	take := takes[library]
	one := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[2]})
	two := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[3]})
	name := "lock-" + library
	first, err := take(one, name, 5*time.Second)
	check(err)
	must("it is there", two.PTTL(ctx, name).Val() > 3*time.Second)
	_, err = take(two, name, 5*time.Second)
	must("taken twice", err != nil)
	for two.PTTL(ctx, name).Val() > 4900*time.Millisecond {
		time.Sleep(20 * time.Millisecond)
	}
	check(first.extend())
	must("it was extended", two.PTTL(ctx, name).Val() > 4900*time.Millisecond)
	check(first.release())
	must("it is gone", two.Exists(ctx, name).Val() == 0)
	// Whose lock is over takes nothing from the next one.
	first, err = take(one, name, 500*time.Millisecond)
	check(err)
	for end := time.Now().Add(20 * time.Second); two.Exists(ctx, name).Val() != 0; {
		must("it does not end", time.Now().Before(end))
		time.Sleep(20 * time.Millisecond)
	}
	second, err := take(two, name, 5*time.Second)
	check(err)
	must("released what is another's", first.release() != nil)
	must("it is still there", one.Exists(ctx, name).Val() == 1)
	check(second.release())
	must("it is gone", one.Exists(ctx, name).Val() == 0)
	fmt.Println("ok")
}
