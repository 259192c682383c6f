#include "node/clock.h"

#define WINDOW_MS 10000u
#define BUNCH_MS 100u  /* Entries made one after the other may arrive together. */
#define SLEW_MS 1000u  /* After so long the clock may have been drawn */
#define SLEW_STEP_MS 1 /* by so much. */

static void take_offset(struct clock *clock, int64_t offset_ms, uint64_t now_ms)
{
    if (clock->has_offset[0] && now_ms - clock->window_ms >= WINDOW_MS) {
        clock->offset_ms[1] = clock->offset_ms[0];
        clock->has_offset[1] = true;
        clock->has_offset[0] = false;
    }
    if (!clock->has_offset[0]) clock->window_ms = now_ms;
    if (!clock->has_offset[0] || offset_ms > clock->offset_ms[0]) clock->offset_ms[0] = offset_ms;
    clock->has_offset[0] = true;
}

void clock_saw(struct clock *clock, uint64_t stamp_ms, uint64_t now_ms)
{
    if (stamp_ms <= clock->stamp_ms) return;
    const uint64_t passed_ms = now_ms - clock->stamp_at_ms;
    if (clock->stamp_at_ms != 0 && stamp_ms - clock->stamp_ms <= passed_ms + BUNCH_MS) {
        take_offset(clock, (int64_t)(stamp_ms - now_ms), now_ms);
    }
    clock->stamp_ms = stamp_ms;
    clock->stamp_at_ms = now_ms;
}

/* What the leader's clock says now; the wall clock when nothing is known of it. */
static uint64_t estimate(const struct clock *clock, uint64_t now_ms, uint64_t wall_ms)
{
    if (!clock->has_offset[0]) return wall_ms;
    int64_t offset_ms = clock->offset_ms[0];
    if (clock->has_offset[1] && clock->offset_ms[1] > offset_ms) offset_ms = clock->offset_ms[1];
    return now_ms + (uint64_t)offset_ms;
}

void clock_lead(struct clock *clock, uint64_t now_ms, uint64_t wall_ms)
{
    clock->base_ms = estimate(clock, now_ms, wall_ms);
    /* Time goes on from the highest stamp: with a clock behind it, it would stand still until that catches up. */
    if (clock->base_ms < clock->stamp_ms) clock->base_ms = clock->stamp_ms;
    clock->at_ms = now_ms;
    clock->last_ms = 0;
    clock->leads = true;
}

void clock_follow(struct clock *clock, uint64_t now_ms, uint64_t wall_ms)
{
    clock->base_ms = estimate(clock, now_ms, wall_ms);
    clock->at_ms = now_ms;
    clock->leads = false;
}

static void draw(struct clock *clock, uint64_t now_ms, uint64_t wall_ms)
{
    if (!clock->leads || now_ms - clock->at_ms < SLEW_MS) return;
    const uint64_t there_ms = clock->base_ms + (now_ms - clock->at_ms);
    clock->at_ms = now_ms;
    clock->base_ms = there_ms;
    if (wall_ms > there_ms) clock->base_ms += SLEW_STEP_MS;
    if (wall_ms < there_ms) clock->base_ms -= SLEW_STEP_MS;
}

uint64_t clock_now(struct clock *clock, uint64_t now_ms, uint64_t wall_ms)
{
    draw(clock, now_ms, wall_ms);
    uint64_t clock_ms = clock->base_ms + (now_ms - clock->at_ms);
    if (clock_ms < clock->stamp_ms) clock_ms = clock->stamp_ms;
    if (clock_ms < clock->last_ms) clock_ms = clock->last_ms;
    clock->last_ms = clock_ms;
    return clock_ms;
}
