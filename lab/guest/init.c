// SPDX-License-Identifier: GPL-2.0-only
/*
 * init of the virtual host: set the machine up, run one command, say how it
 * ended, power off.
 *
 * The launcher (lab/host/launch.py) puts what it wants into /lab of the initrd:
 *
 *   argv     the command, NUL-terminated strings
 *   environ  its environment, NUL-terminated NAME=VALUE strings
 *   devices  PCI addresses to bind to vfio-pci, one a line
 *
 * and talks through virtio-serial ports: 1 carries the command's stdout, 2 its
 * stderr, 3 the status ("start", then "exit N" or "signal N").  With --shell
 * the command gets /dev/hvc0 as its terminal instead of 1 and 2.
 *
 * init's own stdout is the kernel's console, which the launcher logs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT_OUT = 1, PORT_ERR, PORT_STATUS };

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* Without a status on port 3 the launcher knows that the lab itself failed. */
static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	printf("lab init: ");
	vprintf(fmt, ap);
	printf(": %s\n", strerror(err));
	va_end(ap);
	fflush(stdout);
	power_off();
	__builtin_unreachable();
}

static void mount_at(const char *type, const char *dir, const char *options)
{
	if (mkdir(dir, 0755) && errno != EEXIST)
		die("mkdir %s", dir);
	if (mount(type, dir, type, 0, options))
		die("mount %s", dir);
}

/* A directory of the host, if the launcher attached one under this tag. */
static void mount_host(const char *tag, const char *dir, unsigned long flags)
{
	if (mkdir(dir, 0755) && errno != EEXIST)
		die("mkdir %s", dir);
	/* What nobody changes can be read ahead, and is kept. */
	if (mount(tag, dir, "9p", flags,
		  flags & MS_RDONLY ?
		  "trans=virtio,version=9p2000.L,msize=512000,cache=loose" :
		  "trans=virtio,version=9p2000.L,msize=512000,cache=mmap") &&
	    errno != ENOENT)
		die("mount %s", dir);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("write %s", path);
	close(fd);
}

/* A whole file of the initrd, and a NUL after it. */
static char *read_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY);
	struct stat stat;
	char *text;

	if (fd < 0 || fstat(fd, &stat))
		die("open %s", path);
	*size = stat.st_size;
	text = calloc(1, *size + 1);
	if (!text || read(fd, text, *size) != stat.st_size)
		die("read %s", path);
	close(fd);
	return text;
}

/* The NUL-terminated strings of a file as a NULL-terminated vector. */
static char **read_strings(const char *path)
{
	char **vector = NULL;
	size_t size, n = 0;
	char *text = read_file(path, &size);

	for (char *p = text; ; p += strlen(p) + 1) {
		vector = realloc(vector, (n + 1) * sizeof(*vector));
		if (!vector)
			die("realloc");
		if (p == text + size)
			break;
		vector[n++] = p;
	}
	vector[n] = NULL;
	return vector;
}

static void install_busybox(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		execl("/bin/busybox", "busybox", "--install", "-s", "/bin", NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		die("busybox --install");
}

static void bind_vfio(void)
{
	size_t size;
	char *text = read_file("/lab/devices", &size), *bdf, path[128];

	for (bdf = strtok(text, "\n"); bdf; bdf = strtok(NULL, "\n")) {
		snprintf(path, sizeof(path),
			 "/sys/bus/pci/devices/%s/driver_override", bdf);
		write_file(path, "vfio-pci");
		/* virtio-pci takes any device of its kind, whether or not there is a driver for what it does. */
		snprintf(path, sizeof(path),
			 "/sys/bus/pci/devices/%s/driver/unbind", bdf);
		if (!access(path, F_OK))
			write_file(path, bdf);
		write_file("/sys/bus/pci/drivers_probe", bdf);
		snprintf(path, sizeof(path),
			 "/sys/bus/pci/drivers/vfio-pci/%s", bdf);
		if (access(path, F_OK))
			die("bind %s to vfio-pci", bdf);
	}
}

/*
 * Open the one device that matches.  Ports are announced by the host after
 * their driver has probed, so wait a little; and which virtio device they
 * belong to depends on what else was probed, hence the pattern.
 */
static int open_device(const char *pattern, int flags)
{
	for (int ms = 0; ms < 10000; ms += 5) {
		glob_t found;

		if (!glob(pattern, 0, NULL, &found)) {
			int fd = open(found.gl_pathv[0], flags | O_CLOEXEC);

			if (fd < 0)
				die("open %s", found.gl_pathv[0]);
			globfree(&found);
			return fd;
		}
		usleep(5000);
	}
	errno = ETIMEDOUT;
	die("wait for %s", pattern);
}

static int open_port(int number)
{
	char pattern[32];

	snprintf(pattern, sizeof(pattern), "/dev/vport*p%d", number);
	return open_device(pattern, O_WRONLY);
}

static void write_all(int fd, const char *data, ssize_t left)
{
	while (left > 0) {
		ssize_t n = write(fd, data, left);

		if (n < 0 && errno != EINTR)
			die("write to the host");
		if (n > 0) {
			data += n;
			left -= n;
		}
	}
}

static void __attribute__((format(printf, 2, 3)))
report(int port, const char *fmt, ...)
{
	char line[32];
	va_list ap;

	va_start(ap, fmt);
	write_all(port, line, vsnprintf(line, sizeof(line), fmt, ap));
	va_end(ap);
}

static void use_terminal(void)
{
	struct winsize size = {};
	int fd = open_device("/dev/hvc0", O_RDWR);

	setsid();
	if (ioctl(fd, TIOCSCTTY, 0))
		die("controlling terminal");
	if (getenv("LINES") && getenv("COLUMNS")) {
		size.ws_row = atoi(getenv("LINES"));
		size.ws_col = atoi(getenv("COLUMNS"));
		ioctl(fd, TIOCSWINSZ, &size);
	}
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
}

/* Children end while init waits in ppoll() and at no other moment. */
static void on_child(int signal)
{
}

static void mask_sigchld(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(how, &set, NULL);
}

/*
 * The command writes to pipes and init copies: a port can be opened only once,
 * so with the ports themselves as stdout and stderr, "echo >/dev/stderr" would
 * fail with EBUSY.
 */
struct stream {
	int pipe[2];
	int port;
};

static pid_t start(char **argv, struct stream *out, struct stream *err)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;

	if (out) {
		setsid();
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(out->pipe[1], 1);
		dup2(err->pipe[1], 2);
	} else {
		use_terminal();
	}
	signal(SIGCHLD, SIG_DFL);
	mask_sigchld(SIG_UNBLOCK);
	if (chdir("/mnt"))
		_exit(126);
	execvp(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/*
 * Copy until the command has ended, end what it left running (so that the
 * pipes close and nothing holds memory when leaks are looked for), and copy
 * the rest.
 */
static int supervise(pid_t command, struct stream *streams, int count)
{
	static char data[65536];
	struct pollfd fds[2] = {};
	int ended, status = 0, left = count;
	bool running = true;
	sigset_t none;
	pid_t pid;

	sigemptyset(&none);
	for (int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ .fd = streams[i].pipe[0], .events = POLLIN };

	while (running || left) {
		ppoll(fds, count, NULL, &none);
		for (int i = 0; i < count; i++) {
			ssize_t n;

			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			n = read(fds[i].fd, data, sizeof(data));
			if (n < 0)
				die("read the command's output");
			write_all(streams[i].port, data, n);
			if (!n) {
				fds[i].fd = -1;
				left--;
			}
		}
		while ((pid = waitpid(-1, &ended, WNOHANG)) > 0) {
			if (pid != command)
				continue;
			status = ended;
			running = false;
			kill(-1, SIGKILL);
		}
	}
	while (wait(NULL) > 0)
		;
	return status;
}

/*
 * kmemleak reports an object when two scans in a row found no pointer to it,
 * and only once it is five seconds old.
 */
static void report_leaks(void)
{
	const char *path = "/sys/kernel/debug/kmemleak";
	char line[512];
	FILE *file;

	if (access(path, F_OK))
		return;
	sleep(6);
	write_file(path, "scan");
	write_file(path, "scan");
	file = fopen(path, "r");
	if (!file)
		die("read %s", path);
	while (fgets(line, sizeof(line), file))
		fputs(line, stdout);
	fclose(file);
}

int main(void)
{
	struct stream streams[2];
	bool terminal;
	char **argv;
	int status_port, status;
	pid_t pid;

	mount_at("devtmpfs", "/dev", NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("debugfs", "/sys/kernel/debug", NULL);
	mount_at("tmpfs", "/tmp", NULL);
	mount_at("tmpfs", "/run", NULL);
	mount_at("devpts", "/dev/pts", NULL);
	mount_at("tmpfs", "/dev/shm", NULL);
	mount_at("hugetlbfs", "/dev/hugepages", "pagesize=2M");
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	mount_host("share", "/mnt", 0);
	mount_host("selftests", "/opt/vfio-selftests", MS_RDONLY);
	mount_host("qemu", "/opt/qemu", MS_RDONLY);
	/* Programs of Debian's, on a machine that has them. */
	mount_host("usr", "/usr", MS_RDONLY);
	symlink("usr/lib", "/lib");
	install_busybox();
	bind_vfio();

	argv = read_strings("/lab/argv");
	environ = read_strings("/lab/environ");
	terminal = getenv("LAB_TERMINAL");

	signal(SIGCHLD, on_child);
	mask_sigchld(SIG_BLOCK);

	status_port = open_port(PORT_STATUS);
	for (int i = 0; i < 2 && !terminal; i++) {
		streams[i].port = open_port(PORT_OUT + i);
		if (pipe2(streams[i].pipe, O_CLOEXEC))
			die("pipe");
	}
	report(status_port, "start\n");
	pid = terminal ? start(argv, NULL, NULL) :
			 start(argv, &streams[0], &streams[1]);
	for (int i = 0; i < 2 && !terminal; i++)
		close(streams[i].pipe[1]);

	status = supervise(pid, streams, terminal ? 0 : 2);
	report_leaks();
	umount("/mnt");
	if (WIFSIGNALED(status))
		report(status_port, "signal %d\n", WTERMSIG(status));
	else
		report(status_port, "exit %d\n", WEXITSTATUS(status));
	power_off();
}
