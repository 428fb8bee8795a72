package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"pibox/internal/admin"
)

// An upload that breaks off leaves nothing, over the socket as well; two imports do not go on at once; more than the disk has is refused beforehand.
func TestImportOverTheSocket(t *testing.T) {
	d := serve(t, t.TempDir(), time.Minute, nil)
	d.hears("READY=1")
	api := d.client()
	var file bytes.Buffer
	file.WriteString("<server-data xmlns='urn:xmpp:pie:0'><host jid='home.example'><user name='juliet'><archive xmlns='urn:xmpp:pie:0#mam'>")
	for i := range 3000 {
		fmt.Fprintf(&file, "<result xmlns='urn:xmpp:mam:2' id='%d'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2020-07-10T23:08:25Z'/>"+
			"<message xmlns='jabber:client' from='juliet@home.example/b' to='romeo@x.example'><body>%s</body></message></forwarded></result>", i, strings.Repeat("x", 300))
	}
	half := bytes.Clone(file.Bytes())
	file.WriteString("</archive></user></host></server-data>")

	begun, goOn := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := api.Import(ctx, admin.ImportRequest{}, io.MultiReader(bytes.NewReader(half), reading(func() {
			close(begun)
			<-goOn
		})))
		ended <- err
	}()
	<-begun
	if _, err := api.UserAdd(t.Context(), admin.UserAddRequest{User: "nurse"}); err != nil {
		t.Error(err) // the box goes on
	}
	var e *admin.Error
	if _, err := api.Import(t.Context(), admin.ImportRequest{}, bytes.NewReader(file.Bytes())); !errors.As(err, &e) || e.Code != admin.CodeBusy {
		t.Errorf("a second import: %v", err)
	}
	cancel()
	close(goOn)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the first import: %v", err)
	}
	for {
		_, err := api.Import(t.Context(), admin.ImportRequest{DryRun: true}, bytes.NewReader(file.Bytes()))
		if !errors.As(err, &e) || e.Code != admin.CodeBusy {
			break // the daemon has noticed that the caller left
		}
	}
	if _, err := api.UserGet(t.Context(), admin.UserGetRequest{User: "juliet"}); !errors.As(err, &e) || e.Code != admin.CodeNotFound {
		t.Errorf("half an account is there: %v", err)
	}
	if _, err := api.Import(t.Context(), admin.ImportRequest{Size: 1 << 60}, bytes.NewReader(file.Bytes())); !errors.As(err, &e) || e.Code != admin.CodeFailed || !strings.Contains(e.Message, "too little space") {
		t.Errorf("what has no room: %v", err)
	}
	resp, err := api.Import(t.Context(), admin.ImportRequest{Size: int64(file.Len())}, bytes.NewReader(file.Bytes()))
	if err != nil || len(resp.Accounts) != 1 || resp.Accounts[0].Archived != 3000 {
		t.Errorf("%v %+v", err, resp)
	}
	var out bytes.Buffer
	if resp, err := api.Export(t.Context(), admin.ExportRequest{Users: []string{"juliet"}}, &out); err != nil || len(resp.Accounts) != 1 || strings.Count(out.String(), "<result ") != 3000 {
		t.Errorf("%v %+v", err, resp)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

// reading is a reader that waits, and then has nothing.
type reading func()

func (r reading) Read([]byte) (int, error) {
	r()
	return 0, io.EOF
}
