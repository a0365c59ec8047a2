/* Memory, descriptors, CPU time and threads of this process, from /proc. */
#include "telemetry/process.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "telemetry/metrics.h"

static void one(struct buf *out, const char *name, const char *type, const char *help, double v)
{
	metrics_head(out, name, type, help);
	metrics_line(out, name, NULL, METRIC_NONE, v);
}

static unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", ".." and the one reading */
}

static void print_memory(struct buf *out)
{
	unsigned long size = 0, resident = 0;
	double page = (double)sysconf(_SC_PAGESIZE);
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return;
	if (fscanf(f, "%lu %lu", &size, &resident) == 2) {
		one(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes", (double)size * page);
		one(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes", (double)resident * page);
	}
	fclose(f);
}

/* Field 20 is the number of threads, 22 the start in clock ticks after boot; counted behind the name in parentheses. */
static void print_stat(struct buf *out)
{
	unsigned long long start = 0, boot = 0;
	long threads = 0;
	char line[1024];
	FILE *f = fopen("/proc/self/stat", "re");
	const char *at = NULL;

	if (!f)
		return;
	if (fgets(line, sizeof(line), f))
		at = strrchr(line, ')');
	fclose(f);
	if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu", &threads, &start) != 2)
		return;
	one(out, "process_threads", "gauge", "Number of threads", (double)threads);
	f = fopen("/proc/stat", "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "btime %llu", &boot) == 1)
			break;
	fclose(f);
	one(out, "process_start_time_seconds", "gauge", "Start time since unix epoch in seconds",
	    (double)boot + (double)start / (double)sysconf(_SC_CLK_TCK));
}

#define DISKS_MAX 4

static struct {
	const char *name, *path;
} disks[DISKS_MAX];
static size_t n_disks;

void process_disk_watch(const char *name, const char *path)
{
	if (n_disks == DISKS_MAX || !*path)
		return;
	disks[n_disks].name = name;
	disks[n_disks++].path = path;
}

/* What a user may still take, and all there is. */
static void print_disks(struct buf *out)
{
	struct statvfs fs;

	if (!n_disks)
		return;
	metrics_head(out, "crm_disk_free_bytes", "gauge", "Room on the file system of a folder that this program writes to");
	for (size_t i = 0; i < n_disks; i++)
		if (statvfs(disks[i].path, &fs) == 0)
			metrics_line(out, "crm_disk_free_bytes", "disk", str_of(disks[i].name), (double)fs.f_bavail * (double)fs.f_frsize);
	metrics_head(out, "crm_disk_size_bytes", "gauge", "Size of the file system of a folder that this program writes to");
	for (size_t i = 0; i < n_disks; i++)
		if (statvfs(disks[i].path, &fs) == 0)
			metrics_line(out, "crm_disk_size_bytes", "disk", str_of(disks[i].name), (double)fs.f_blocks * (double)fs.f_frsize);
}

void process_metrics_print(struct buf *out)
{
	struct rusage use;
	struct rlimit limit;

	if (getrusage(RUSAGE_SELF, &use) == 0)
		one(out, "process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds",
		    (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
	print_memory(out);
	print_stat(out);
	one(out, "process_open_fds", "gauge", "Number of open file descriptors", open_descriptors());
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		one(out, "process_max_fds", "gauge", "Maximum number of open file descriptors", (double)limit.rlim_cur);
	print_disks(out);
}
