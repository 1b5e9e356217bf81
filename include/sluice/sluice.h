/* All of Sluice: ordered byte streams on io_uring. Start reading at stream.h. */
#ifndef SLUICE_SLUICE_H
#define SLUICE_SLUICE_H

#include <sluice/address.h>
#include <sluice/buffer.h>
#include <sluice/connect.h>
#include <sluice/engine.h>
#include <sluice/fd.h>
#include <sluice/frame.h>
#include <sluice/group.h>
#include <sluice/listener.h>
#include <sluice/options.h>
#include <sluice/pair.h>
#include <sluice/stream.h>

#endif
