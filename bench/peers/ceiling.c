/* The raw socket ceiling: as little of a STOMP broker over WebSocket as the load generator needs, in C.
 *
 * One thread, epoll, one send() for each message and socket; with --coalesce one send() for all that a socket
 * gets out of one read. No limits, no checks, exact destinations, text frames: what a kernel and two
 * memcpy() cost, and nothing else.
 *
 *     cc -O2 -o ceiling ceiling.c && ./ceiling [--port N] [--coalesce]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CLIENTS = 65536, READ = 65536, TOPICS = 16384 };

typedef struct {
    char *data;
    size_t size, room;
} Buffer;

typedef struct Client {
    int fd, is_open, is_dirty;
    Buffer in, out; /* not yet understood; not yet taken by the kernel, or not yet sent */
} Client;

typedef struct {
    char *name;
    int count, room;
    struct {
        Client *client;
        char id[32];
    } *subscribers;
} Topic;

static Client *clients[CLIENTS];
static Topic topics[TOPICS];
static Client *dirty[CLIENTS];
static int dirty_count, poller, is_coalescing;
static unsigned long next_id;

static void add(Buffer *buffer, const void *data, size_t size) {
    if (buffer->size + size > buffer->room) {
        buffer->room = (buffer->size + size) * 2;
        buffer->data = realloc(buffer->data, buffer->room);
        if (!buffer->data) abort();
    }
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void cut(Buffer *buffer, size_t size) {
    memmove(buffer->data, buffer->data + size, buffer->size - size);
    buffer->size -= size;
}

/* SHA-1 (RFC 3174) of a short text, and base64: the handshake's. */
static uint32_t roll(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const unsigned char *text, size_t length, unsigned char *out) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    unsigned char block[128] = {0};
    size_t blocks = length + 9 > 64 ? 2 : 1;
    memcpy(block, text, length);
    block[length] = 0x80;
    for (int i = 0; i < 4; i++) block[blocks * 64 - 1 - i] = (unsigned char)(length * 8 >> 8 * i);
    for (size_t at = 0; at < blocks * 64; at += 64) {
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[at + 4 * i] << 24 | block[at + 4 * i + 1] << 16 | block[at + 4 * i + 2] << 8 |
                   block[at + 4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = roll(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t t = roll(a, 5) + f + e + w[i];
            e = d, d = c, c = roll(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const unsigned char *in, char *out) { /* of 20 bytes: 28 characters */
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 21; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | in[i + 1] << 8 | (i + 2 < 20 ? in[i + 2] : 0);
        for (int k = 0; k < 4; k++) *out++ = set[v >> (18 - 6 * k) & 63];
    }
    out[-1] = '=', out[0] = 0;
}

static void want_write(Client *client, int is_wanted) {
    struct epoll_event event = {EPOLLIN | (is_wanted ? EPOLLOUT : 0), {.ptr = client}};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void hang_up(Client *client) {
    close(client->fd);
    client->is_open = 0;
    clients[client->fd] = NULL; /* subscriptions still name it: it is never freed */
}

static void flush(Client *client) {
    while (client->is_open && client->out.size) {
        ssize_t sent = send(client->fd, client->out.data, client->out.size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) return want_write(client, 1);
        if (sent < 0) return hang_up(client);
        cut(&client->out, (size_t)sent);
    }
}

static void write_frame(Client *client, const char *text, size_t size) {
    unsigned char head[10] = {0x81};
    size_t length = size < 126 ? 2 : size < 65536 ? 4 : 10;
    if (!client->is_open) return;
    head[1] = length == 2 ? (unsigned char)size : length == 4 ? 126 : 127;
    for (size_t i = 2; i < length; i++) head[i] = (unsigned char)(size >> 8 * (length - 1 - i));
    int is_behind = client->out.size > 0;
    add(&client->out, head, length);
    add(&client->out, text, size);
    if (!is_coalescing && !is_behind)
        flush(client);
    else if (is_coalescing && !client->is_dirty) {
        client->is_dirty = 1;
        dirty[dirty_count++] = client;
    }
}

static Topic *find(const char *name, size_t size) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    for (uint32_t at = hash;; at++) {
        Topic *topic = &topics[at % TOPICS];
        if (!topic->name) topic->name = strndup(name, size);
        if (!strncmp(topic->name, name, size) && !topic->name[size]) return topic;
    }
}

/* A header's value in a frame that ends with NUL; its size, 0 without one. */
static size_t header(const char *frame, const char *name, const char **value) {
    const char *at = frame, *end = strstr(frame, "\n\n");
    size_t size = strlen(name);
    while ((at = strchr(at, '\n')) && at < end) {
        if (!strncmp(++at, name, size) && at[size] == ':') {
            *value = at + size + 1;
            return strcspn(*value, "\n");
        }
    }
    return 0;
}

static void understand(Client *client, const char *frame, size_t size) {
    const char *value = "", *id = "";
    char text[READ * 2];
    while (*frame == '\n') frame++, size--;
    if (!strncmp(frame, "CONNECT", 7) || !strncmp(frame, "STOMP", 5)) {
        static const char connected[] = "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n";
        write_frame(client, connected, sizeof connected);
    } else if (!strncmp(frame, "SUBSCRIBE", 9)) {
        size_t length = header(frame, "destination", &value), id_length = header(frame, "id", &id);
        Topic *topic = find(value, length);
        if (topic->count == topic->room) {
            topic->room = topic->room * 2 + 4;
            topic->subscribers = realloc(topic->subscribers, (size_t)topic->room * sizeof *topic->subscribers);
        }
        topic->subscribers[topic->count].client = client;
        snprintf(topic->subscribers[topic->count++].id, 32, "%.*s", (int)(id_length < 31 ? id_length : 31), id);
        if ((length = header(frame, "receipt", &value)))
            write_frame(client, text, (size_t)sprintf(text, "RECEIPT\nreceipt-id:%.*s\n\n", (int)length, value) + 1);
    } else if (!strncmp(frame, "SEND", 4)) {
        size_t length = header(frame, "destination", &value);
        const char *body = strstr(frame, "\n\n");
        if (!body) return;
        size_t body_size = size - (size_t)(body - frame) - 2; /* its NUL included */
        Topic *topic = find(value, length);
        next_id++;
        for (int i = 0; i < topic->count; i++) {
            size_t head = (size_t)snprintf(text, READ,
                                           "MESSAGE\nsubscription:%s\ndestination:%.*s\nmessage-id:%lu\n"
                                           "content-type:application/json\ncontent-length:%zu\n\n",
                                           topic->subscribers[i].id, (int)length, value, next_id, body_size - 1);
            if (head + body_size > sizeof text) return;
            memcpy(text + head, body + 2, body_size);
            write_frame(topic->subscribers[i].client, text, head + body_size);
        }
    }
}

/* Take the handshake, or one WebSocket frame, from the front of what has come; 0 when it is incomplete. */
static size_t take(Client *client, char *data, size_t size) {
    if (*data == 'G') {
        char *end = memmem(data, size, "\r\n\r\n", 4), *key, text[64], accept[29], answer[256];
        unsigned char digest[21] = {0};
        if (!end || !(key = strcasestr(data, "Sec-WebSocket-Key: "))) return 0;
        int length = sprintf(text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
        sha1((unsigned char *)text, (size_t)length, digest);
        base64(digest, accept);
        length = sprintf(answer,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n",
                         accept);
        add(&client->out, answer, (size_t)length);
        flush(client);
        return (size_t)(end + 4 - data);
    }
    unsigned char *bytes = (unsigned char *)data;
    size_t head = 6, length = size < 2 ? 0 : bytes[1] & 127;
    if (length == 126) head = 8;
    if (length == 127) head = 14;
    if (size < head) return 0;
    if (head > 6) {
        length = 0;
        for (size_t i = 2; i < head - 4; i++) length = length << 8 | bytes[i];
    }
    if (size < head + length) return 0;
    for (size_t i = 0; i < length; i++) data[head + i] ^= data[head - 4 + (i & 3)];
    if ((bytes[0] & 15) == 8)
        hang_up(client);
    else if (length > 1)
        understand(client, data + head, length);
    return head + length;
}

static void receive(Client *client) {
    static char data[READ + 1];
    ssize_t got = recv(client->fd, data, READ, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return hang_up(client);
    add(&client->in, data, (size_t)got);
    size_t used = 0, size;
    while (client->is_open && used < client->in.size &&
           (size = take(client, client->in.data + used, client->in.size - used)))
        used += size;
    if (client->is_open) cut(&client->in, used);
}

int main(int count, char **arguments) {
    int port = 0, on = 1;
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "--coalesce")) is_coalescing = 1;
        if (!strcmp(arguments[i], "--port") && i + 1 < count) port = atoi(arguments[++i]);
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t length = sizeof address;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) return perror("listen"), 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening on ws://127.0.0.1:%d/ws\n", ntohs(address.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}}, events[512];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            Client *client = events[i].data.ptr;
            if (client) {
                if (client->is_open && events[i].events & EPOLLOUT) {
                    want_write(client, 0);
                    flush(client);
                }
                if (client->is_open && events[i].events & ~(uint32_t)EPOLLOUT) receive(client);
                continue;
            }
            for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                if (fd >= CLIENTS) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                client = clients[fd] = calloc(1, sizeof *client);
                client->fd = fd, client->is_open = 1;
                event.data.ptr = client;
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
            }
        }
        for (int i = 0; i < dirty_count; i++) {
            dirty[i]->is_dirty = 0;
            flush(dirty[i]);
        }
        dirty_count = 0;
    }
}
