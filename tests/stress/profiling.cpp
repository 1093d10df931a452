/* profiling.cpp: a heap profile that is started, dumped and stopped all the time beside threads
 * that come and go, libraries that are loaded and closed, exceptions that are thrown and processes
 * that are forked. None of them may stop for another: then the test times out. On the override
 * library, for 20 seconds or TEST_SECONDS; the arguments are libraries to load. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#define VALLOC_NO_SHORT_NAMES
#include "valloc.h"

namespace
{

time_t end;
std::vector<const char *> libraries;

/* Of the library that is preloaded. */
decltype(&valloc_profile_start) profile_start;
decltype(&valloc_profile_stop) profile_stop;
decltype(&valloc_profile_dump) profile_dump;
decltype(&valloc_profile_visit) profile_visit;

template <typename F> void find(F &function, const char *name)
{
    function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
    if (function == nullptr) {
        fprintf(stderr, "%s is not preloaded\n", name);
        exit(1);
    }
}

[[noreturn]] void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    _exit(1);
}

unsigned draw(unsigned &seed, unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % below;
}

void churn(unsigned seed)
{
    std::vector<std::vector<char>> kept(100);
    for (int i = 0; i < 2000; i++) {
        std::vector<char> &one = kept[draw(seed, 100)];
        size_t size = draw(seed, 50) == 0 ? draw(seed, 2000000) : draw(seed, 3000);
        std::vector<char>(size, char(i)).swap(one);
        void *block = realloc(malloc(1 + draw(seed, 500)), 1 + draw(seed, 5000));
        if (block == nullptr)
            fail("realloc");
        free(block);
    }
}

/* From so deep that the stack walk and the unwinder both have something to do. */
void throw_from(unsigned depth)
{
    std::string text(depth * 10, 'x');
    if (depth == 0)
        throw std::runtime_error(std::string(1000, 'y'));
    throw_from(depth - 1);
    fail(text.c_str());
}

void catch_some()
{
    for (unsigned i = 0; i < 200; i++) {
        try {
            throw_from(i % 30);
            fail("nothing was thrown");
        } catch (const std::exception &error) {
            if (strlen(error.what()) != 1000)
                fail("another exception");
        }
    }
}

int take(void *bytes, const void *, size_t count)
{
    *static_cast<size_t *>(bytes) += count;
    free(malloc(count)); /* a sink may allocate */
    return 0;
}

int see(const valloc_profile_sample *sample, void *)
{
    return sample->size == 0;
}

void dump_some()
{
    for (int format = VALLOC_PROFILE_PPROF; format <= VALLOC_PROFILE_PPROF_ALL; format++) {
        size_t bytes = 0;
        if (profile_dump(valloc_profile_format(format), take, &bytes) != 0)
            fail("a dump failed");
    }
    if (profile_visit(see, nullptr) != 0)
        fail("a sample without a size");
}

/* ---- One kind of thread each ---- */

std::atomic<unsigned long> turns[5];

void *lives_shortly(void *seed)
{
    churn(unsigned(reinterpret_cast<uintptr_t>(seed)));
    catch_some();
    return nullptr;
}

void *start_threads(void *)
{
    for (; time(nullptr) < end; turns[0]++) {
        pthread_t threads[4];
        for (pthread_t &thread : threads)
            if (pthread_create(&thread, nullptr, lives_shortly,
                               reinterpret_cast<void *>(turns[0].load())) != 0)
                fail("pthread_create");
        for (pthread_t thread : threads)
            pthread_join(thread, nullptr);
    }
    return nullptr;
}

void *load(void *)
{
    for (; time(nullptr) < end; turns[1]++)
        for (const char *name : libraries) {
            void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
            if (library == nullptr || dlclose(library) != 0)
                fail(dlerror());
        }
    return nullptr;
}

void *throw_all_the_time(void *)
{
    for (; time(nullptr) < end; turns[2]++)
        catch_some();
    return nullptr;
}

/* A child has no other threads, but whatever locks they held. */
void *fork_all_the_time(void *)
{
    for (; time(nullptr) < end; turns[3]++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            alarm(300); /* if it hangs */
            churn(7);
            profile_stop();
            profile_start(10000, VALLOC_PROFILE_LIVE);
            churn(8);
            dump_some();
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            fail("a child failed");
    }
    return nullptr;
}

void *profile(void *)
{
    for (; time(nullptr) < end; turns[4]++) {
        int error = profile_start(1000u << turns[4] % 8,
                                  turns[4] % 2 == 0 ? VALLOC_PROFILE_LIVE : VALLOC_PROFILE_ALL);
        if (error != 0)
            fail("a profile could not be started");
        for (int i = 0; i < 5; i++) {
            churn(unsigned(i));
            dump_some();
        }
        profile_stop();
        dump_some();
    }
    return nullptr;
}

} // namespace

int main(int argc, char **argv)
{
    const char *seconds = getenv("TEST_SECONDS");
    void *(*const bodies[])(void *) = {start_threads, load, throw_all_the_time, fork_all_the_time,
                                       profile};
    pthread_t threads[5];
    find(profile_start, "valloc_profile_start");
    find(profile_stop, "valloc_profile_stop");
    find(profile_dump, "valloc_profile_dump");
    find(profile_visit, "valloc_profile_visit");
    libraries.assign(argv + 1, argv + argc);
    end = time(nullptr) + (seconds != nullptr ? atoi(seconds) : 20);
    for (int i = 0; i < 5; i++)
        if (pthread_create(&threads[i], nullptr, bodies[i], nullptr) != 0)
            fail("pthread_create");
    for (pthread_t thread : threads)
        pthread_join(thread, nullptr);
    printf("turns: %lu of threads, %lu of libraries, %lu of exceptions, %lu of forks, %lu of "
           "profiles\n",
           turns[0].load(), turns[1].load(), turns[2].load(), turns[3].load(), turns[4].load());
    for (auto &count : turns)
        if (count == 0)
            fail("a kind of work did not take place");
    return 0;
}
