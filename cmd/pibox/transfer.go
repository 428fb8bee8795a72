package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/transfer"
)

// transferPort is where an old box listens for the new one.
const transferPort = "5271"

func transferCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "transfer",
		Short: "Let a new box take this one's place, over the network",
		Long: `Let a new box take the place of an old one, with everything, over the network of the house:
'pibox transfer offer' on the old box shows a code and its addresses, and 'pibox transfer
fetch' on the new one, whose server is stopped, takes them.

The old box stops serving before the new one begins; both never serve. Whatever fails before
that leaves the old box as it was.`,
		Example: "  pibox transfer offer\n  pibox transfer fetch 192.0.2.7",
	}
	c.AddCommand(transferOfferCmd(a), transferFetchCmd(a), transferReopenCmd(a))
	return c
}

func transferOfferCmd(a *app) *cobra.Command {
	var listen string
	var withdraw bool
	c := &cobra.Command{
		Use:   "offer",
		Short: "On the old box: show the code for the new one",
		Long: `Show a code with which a new box can fetch this one, once, within 15 minutes. This one goes
on serving until then. Whoever has the code can have the box: show it to nobody else. Another
offer takes the place of the one before, whose code is void then.`,
		Example: "  pibox transfer offer\n  pibox transfer offer --withdraw",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			if withdraw {
				resp, err := a.client().TransferWithdraw(ctx, admin.TransferWithdrawRequest{})
				if err == nil {
					a.print(resp, "The code is worth nothing any more.")
				}
				return err
			}
			resp, err := a.client().TransferOffer(ctx, admin.TransferOfferRequest{Listen: listen})
			if err != nil {
				return err
			}
			if len(resp.Addresses) == 0 {
				resp.Addresses = ownAddresses(listen)
			}
			voided := ""
			if resp.Voided {
				voided = "\nThe code that was shown before is void now. Nobody had used it."
			}
			a.print(resp, "On the new box, with its server stopped, until %s:\n\n  pibox transfer fetch %s\n\nIt asks for the code: %s\nThis box: %s%s",
				resp.Expires.Local().Format(time.TimeOnly), withoutPort(resp.Addresses[0]), resp.Code, strings.Join(resp.Addresses, ", "), voided)
			return nil
		}),
	}
	c.Flags().StringVar(&listen, "listen", ":"+transferPort, "`address` to listen on for the new box")
	c.Flags().BoolVar(&withdraw, "withdraw", false, "take an offer back")
	return a.jsonFlag(c)
}

// ownAddresses are this machine's, with the port of listen. The daemon can not ask for them under its unit, which allows no netlink.
func ownAddresses(listen string) (list []string) {
	_, port, _ := net.SplitHostPort(listen)
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			list = append(list, net.JoinHostPort(n.IP.String(), port))
		}
	}
	if len(list) == 0 {
		list = []string{net.JoinHostPort("127.0.0.1", port)}
	}
	return list
}

// withoutPort leaves the usual port out.
func withoutPort(address string) string {
	if h, p, err := net.SplitHostPort(address); err == nil && p == transferPort && !strings.Contains(h, ":") {
		return h
	}
	return address
}

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil || address == "" {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), transferPort)
}

func transferFetchCmd(a *app) *cobra.Command {
	var replace, gone, discard bool
	var codeFile string
	c := &cobra.Command{
		Use:   "fetch [ADDRESS [CODE]]",
		Short: "On the new box: take the old one's place",
		Long: `Take the place of the box at ADDRESS, which showed CODE; without them, ask. The server here
must be stopped. The old box stops serving, everything comes over and is checked, the old
box marks itself as handed over, and this one is ready to be started.

As an argument CODE can be read by whoever is logged in here meanwhile (with ps). Left out, or
as -, it is asked for, or read from the first line of standard input, or of --code-file.

If the connection breaks at the very end, this box may not know whether the old one handed
over. Then it serves nothing; the same command, or the server, asks again. Only if the old
box is lost for good say --old-is-gone; --discard throws away what came.`,
		Example: "  systemctl stop pibox\n  pibox transfer fetch 192.0.2.7\n  systemctl start pibox",
		Args:    cobra.MaximumNArgs(2),
		RunE: ran(func(ctx context.Context, args []string) error {
			if !discard && !gone {
				return a.fetch(ctx, box.FetchRequest{Replace: replace}, args, codeFile)
			}
			cfg, err := a.stopped(ctx)
			if err != nil {
				return err
			}
			if discard {
				if err := box.FetchDiscard(cfg); err != nil {
					return mayNot(err, "write to", cfg.DataDir)
				}
				a.print(struct{}{}, "What came from the old box was thrown away.")
				return nil
			}
			done, err := box.FetchAnyway(ctx, cfg)
			if err == nil {
				a.print(done, "%s", a.restoredText(done))
			}
			return mayNot(err, "write to", cfg.DataDir)
		}),
	}
	c.Flags().BoolVar(&replace, "replace", false, "put it in the place of the box that is there, which is kept beside")
	c.Flags().StringVar(&codeFile, "code-file", "", "`file` with the code in its first line; - is standard input")
	c.Flags().BoolVar(&gone, "old-is-gone", false, "begin without the old box's answer, because it is lost for good")
	c.Flags().BoolVar(&discard, "discard", false, "throw away what waits for the old box's answer")
	c.MarkFlagsMutuallyExclusive("replace", "old-is-gone", "discard")
	return a.jsonFlag(c)
}

// fetchPatience is for how long the old box is asked for its answer: it may be starting again.
const fetchPatience = 2 * time.Minute

func (a *app) fetch(ctx context.Context, req box.FetchRequest, args []string, codeFile string) error {
	cfg, err := a.checked()
	if err != nil {
		return err
	}
	waits, code := box.FetchWaits(cfg), ""
	if !waits {
		if code, err = a.givenCode(args, codeFile); err != nil {
			return err
		}
	}
	if code != "" {
		if req.Code, err = transfer.ParseCode(code); err != nil {
			return usageError{err.Error()}
		}
		if t, ok := box.TakenBy(cfg, req.Code); ok {
			a.print(t, "This box took the place of the one at %s already, on %s. Nothing is left to do but to start it, where it does not serve yet.",
				t.From, t.At.Local().Format(time.DateTime))
			return nil
		}
	}
	if cfg, err = a.stopped(ctx); err != nil {
		return err
	}
	if len(args) > 0 {
		req.Address = withPort(strings.TrimSpace(args[0]))
	}
	if !waits && code == "" {
		if err := a.askFor(ctx, &req); err != nil {
			return err
		}
	}
	req.Config, req.Patience, req.Say = a.file(), fetchPatience, a.say
	done, err := a.program.Fetch(ctx, cfg, req)
	if err != nil {
		return err
	}
	a.print(done, "%s\nThe old box does not serve any more.", a.restoredText(done))
	return nil
}

// givenCode is the code, where nobody is to be asked for it.
func (a *app) givenCode(args []string, file string) (code string, err error) {
	_, terminal := a.terminal()
	switch {
	case len(args) > 1 && args[1] != "-":
		if file != "" {
			err = usageError{"the code is given twice: as an argument and by --code-file"}
		}
		return args[1], err
	case len(args) > 1 || file == "" && !terminal && len(args) > 0:
		file = "-"
	case file == "" && !terminal:
		return "", usageError{"'pibox transfer fetch' needs the old box's address and code"}
	case file == "":
		return "", nil
	}
	if len(args) == 0 {
		return "", usageError{"'pibox transfer fetch' needs the old box's address, too"}
	}
	code, err = a.secretLine(file)
	if err == nil && code == "" {
		where := "the first line of " + file
		if file == "-" {
			where = "the first line of standard input"
		}
		err = usageError{"no code was given: " + where + " is empty"}
	}
	return code, err
}

// askFor asks for what was not given.
func (a *app) askFor(ctx context.Context, req *box.FetchRequest) error {
	asked := func(prompt string) (string, error) {
		answer, err := a.ask(ctx, prompt, a.line)
		if answer = strings.TrimSpace(answer); err == nil && answer == "" {
			err = errors.New("nothing was changed")
		}
		return answer, err
	}
	if req.Address == "" {
		address, err := asked("Address of the old box: ")
		if err != nil {
			return err
		}
		req.Address = withPort(address)
	}
	code, err := asked("Code that it shows: ")
	if err != nil {
		return err
	}
	if req.Code, err = transfer.ParseCode(code); err != nil {
		return usageError{err.Error()}
	}
	return nil
}

func transferReopenCmd(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "reopen",
		Short: "On the old box: serve again after it was handed over",
		Long: `Let this box serve again although it was handed over. Only when the new one does not serve,
and never will: with both, messages are lost and members' devices see two truths.`,
		Example: "  pibox transfer reopen",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			if !yes {
				if err := a.confirm(ctx, "The new box must never serve again, or messages are lost. Let this one serve?"); err != nil {
					return err
				}
			}
			resp, err := a.client().TransferReopen(ctx, admin.TransferReopenRequest{})
			if err == nil {
				a.print(resp, "This box serves again. It was handed over to %s on %s: that one must not be started.", resp.To, resp.At.Local().Format(time.DateTime))
			}
			return err
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return a.jsonFlag(c)
}
