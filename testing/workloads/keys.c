/* A library to preload: takes 40 thread-specific keys before the program begins, so that its own
 * are beyond those that a thread's descriptor holds in itself. */
#include <pthread.h>

__attribute__((constructor)) static void take_keys(void)
{
	for (int i = 0; i < 40; i++) {
		pthread_key_t key;

		if (pthread_key_create(&key, 0) == 0)
			pthread_setspecific(key, &key);
	}
}
