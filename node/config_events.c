/* config_events.c - the letters of notify-keyspace-events. */
#include "node/config.h"

/* In the order in which Redis writes them; the first eleven are what A stands for, but for n. */
static const struct {
    char letter;
    uint32_t event;
} event_letters[] = {{'g', CONFIG_EVENT_GENERIC},
                     {'$', CONFIG_EVENT_STRING},
                     {'l', 16},
                     {'s', 32},
                     {'h', 64},
                     {'z', 128},
                     {'x', CONFIG_EVENT_EXPIRED},
                     {'e', 512},
                     {'t', 1024},
                     {'d', 8192},
                     {'n', CONFIG_EVENT_NEW},
                     {'K', CONFIG_EVENT_KEYSPACE},
                     {'E', CONFIG_EVENT_KEYEVENT},
                     {'m', CONFIG_EVENT_MISS}};
#define EVENT_LETTERS ((uint32_t)(sizeof event_letters / sizeof event_letters[0]))
#define EVENTS_ALL (4u | 8u | 16u | 32u | 64u | 128u | 256u | 512u | 1024u | 8192u)

bool config_events(struct slice text, uint32_t *events)
{
    uint32_t all = 0;
    for (uint64_t i = 0; i < text.size; i++) {
        uint32_t at = 0;
        const char letter = (char)text.data[i];
        while (at < EVENT_LETTERS && event_letters[at].letter != letter) at++;
        if (at == EVENT_LETTERS && letter != 'A') return false;
        all |= letter == 'A' ? EVENTS_ALL : event_letters[at].event;
    }
    *events = all;
    return true;
}

void config_events_put(uint32_t events, struct buf *out)
{
    const bool is_all = (events & EVENTS_ALL) == EVENTS_ALL;
    if (is_all) buf_u8(out, 'A');
    for (uint32_t i = 0; i < EVENT_LETTERS; i++) {
        const uint32_t event = event_letters[i].event;
        const bool is_said = is_all && ((event & EVENTS_ALL) != 0 || event == CONFIG_EVENT_NEW);
        if ((events & event) != 0 && !is_said) buf_u8(out, (uint8_t)event_letters[i].letter);
    }
}
